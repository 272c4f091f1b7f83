// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What came out, as tables in Markdown.

use crate::density::outcome::Outcome;
use crate::density::plan::Plan;
use crate::density::way::Way;
use std::fmt::Write;
use std::time::Duration;

/// The tables of `outcomes`. `emulated` is whether the guests' CPUs were.
pub(crate) fn tables(plan: &Plan, outcomes: &[Outcome], emulated: bool) -> String {
    // Said beside every time there is.
    let mark = if emulated { ", emulated" } else { "" };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "| variant | guests to their end | killed by the host | killed in guests | time{mark} | | \
         busy phase{mark} | | memory held, mean | most | mean without page cache |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    );
    let ours = outcomes.iter().find(|outcome| outcome.way == Way::Tmem);
    let whole = |outcome: &Outcome| outcome.finished == plan.guests;
    for outcome in outcomes {
        // Fewer guests do less work, so their time is beside nobody's.
        let time = match whole(outcome) {
            true => format!("{:.0} s", outcome.seconds),
            false => String::from("–"),
        };
        let time_beside = ours
            .filter(|ours| whole(outcome) && whole(ours))
            .map(|ours| beside(outcome, ours, |outcome| outcome.seconds))
            .unwrap_or_default();
        let busy = match outcome.phases {
            0 => "–".into(),
            count => format!("{:.1} s ({count})", outcome.busy_s),
        };
        let busy_beside = ours
            .map(|ours| beside(outcome, ours, |outcome| outcome.busy_s))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "| {} | {} of {} | {} | {} | {time} | {time_beside} | {busy} | {busy_beside} | {} | {} \
             | {} |",
            outcome.way.name(),
            outcome.finished,
            plan.guests,
            outcome.host_kills,
            outcome.guest_kills,
            mib(outcome.mean),
            mib(outcome.peak),
            mib(outcome.mean_uncached),
        );
    }
    let _ = writeln!(
        text,
        "\n| variant | first touch, median{mark} | 99 of 100 within{mark} | | half back \
         after{mark} | back in the end | touched again in{mark} | beside a second time | in swap | \
         which takes |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    );
    for outcome in outcomes {
        let quantile = |permille| {
            let time = outcome.touches.quantile(permille);
            time.map_or("–".into(), shown)
        };
        let p99 = |outcome: &Outcome| {
            let time = outcome.touches.quantile(990);
            time.map_or(0.0, |time| time.as_secs_f64())
        };
        let p99_beside = ours
            .map(|ours| beside(outcome, ours, p99))
            .unwrap_or_default();
        let comes = outcome.comes_back.as_ref();
        let half = comes.map_or("–".into(), |comes| match comes.half_s {
            Some(seconds) => format!("{seconds:.0} s"),
            None => format!("not in {} s", plan.rest_s),
        });
        let back = comes.map_or("–".into(), |comes| {
            format!("{} of {}", mib(comes.back), mib(comes.used))
        });
        let touch = comes.map_or("–".into(), |comes| format!("{:.2} s", comes.touch_s));
        let again = comes
            .filter(|comes| comes.again_s > 0.0)
            .map_or("–".into(), |comes| {
                format!("{:.1}x", comes.touch_s / comes.again_s)
            });
        let swapped = match outcome.way.swap() {
            Some(_) if outcome.finished > 0 => mib(outcome.swapped),
            _ => "–".into(),
        };
        let takes = outcome.swapped_takes.map_or("–".into(), mib);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {p99_beside} | {half} | {back} | {touch} | {again} | {swapped} | \
             {takes} |",
            outcome.way.name(),
            quantile(500),
            quantile(990),
        );
    }
    let mut losses = String::new();
    for outcome in outcomes {
        for loss in &outcome.losses {
            // A sentence's first line tells what happened; what follows are a kernel's words.
            let why = loss.why.lines().next().unwrap_or_default();
            let _ = writeln!(
                losses,
                "* {}, {:.0} s: guest {} {why}",
                outcome.way.name(),
                loss.seconds,
                loss.guest
            );
        }
    }
    if !losses.is_empty() {
        let _ = write!(text, "\nGuests that were lost:\n\n{losses}");
    }
    let mut complaints = String::new();
    for outcome in outcomes {
        for complaint in &outcome.complaints {
            let _ = writeln!(complaints, "* {}, {complaint}", outcome.way.name());
        }
    }
    if !complaints.is_empty() {
        let _ = write!(
            text,
            "\nGuests whose kernel complained, and that got to their end:\n\n{complaints}"
        );
    }
    text
}

/// A metric of one variant beside that of virtio-tmem.
fn beside(outcome: &Outcome, ours: &Outcome, of: impl Fn(&Outcome) -> f64) -> String {
    let (value, our_value) = (of(outcome), of(ours));
    match outcome.way == Way::Tmem || value <= 0.0 || our_value <= 0.0 {
        true => String::new(),
        false => format!("{:.2}x virtio-tmem's", value / our_value),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", (bytes + (1 << 19)) >> 20)
}

fn shown(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        _ if micros < 10.0 => format!("{micros:.1} µs"),
        _ if micros < 10_000.0 => format!("{micros:.0} µs"),
        _ => format!("{:.0} ms", micros / 1e3),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::density::outcome::Loss;
    use crate::density::outcome::Return;
    use crate::density::samples::Sample;
    use tmem_work::histogram::Histogram;

    pub(crate) fn outcome(way: Way, finished: usize, seconds: f64) -> Outcome {
        let mut touches = Histogram::default();
        touches.add(Duration::from_micros(80));
        Outcome {
            way,
            finished,
            losses: Vec::new(),
            complaints: Vec::new(),
            seconds,
            busy_s: 4.0,
            phases: 8,
            host_kills: 0,
            guest_kills: 0,
            touches,
            mean: 700 << 20,
            peak: 900 << 20,
            mean_uncached: 600 << 20,
            comes_back: Some(Return {
                used: 250 << 20,
                half_s: None,
                back: 20 << 20,
                touch_s: 1.0,
                again_s: 0.25,
            }),
            swapped: 300 << 20,
            swapped_takes: None,
            samples: vec![
                Sample {
                    seconds: 1.0,
                    held: 500 << 20,
                    cached: 0,
                },
                Sample {
                    seconds: 90.0,
                    held: 700 << 20,
                    cached: 0,
                },
            ],
        }
    }

    /// One of four guests was lost.
    pub(crate) fn lossy() -> Outcome {
        let mut lossy = outcome(Way::Nothing, 3, 50.0);
        lossy.losses.push(Loss {
            guest: 2,
            seconds: 33.0,
            why: "was killed by the host\nand more".into(),
        });
        lossy.complaints.push("guest 1: soft lockup".into());
        lossy
    }

    #[test]
    fn emulation_is_said_and_times_of_less_work_are_not_compared() {
        let all = [
            lossy(),
            outcome(Way::Disk, 4, 150.0),
            outcome(Way::Tmem, 4, 100.0),
        ];
        let plan = Plan {
            guests: 4,
            rest_s: 60,
            ..Plan::WHOLE
        };
        let text = tables(&plan, &all, true);
        assert!(text.contains("| time, emulated |"), "{text}");
        assert!(
            text.contains("| nothing | 3 of 4 | 0 | 0 | – |  |"),
            "{text}"
        );
        assert!(text.contains("| 150 s | 1.50x virtio-tmem's |"), "{text}");
        assert!(
            text.contains("| not in 60 s | 20 MiB of 250 MiB | 1.00 s | 4.0x |"),
            "{text}"
        );
        assert!(
            text.contains("33 s: guest 2 was killed by the host\n"),
            "{text}"
        );
        assert!(text.contains("* nothing, guest 1: soft lockup\n"), "{text}");
        assert!(!tables(&plan, &all, false).contains("emulated"));
    }
}
