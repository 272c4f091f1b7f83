// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What it costs that a daemon filters its system calls, times its requests, polls its rings and
//! has a keeper.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tmem_store::Page;
use virtio_serve::Histogram;

use super::DEPTHS;
use super::driver::Driver;
use super::peer::Peer;
use super::tmem::Tmem;
use crate::report::Report;
use crate::samples::{Samples, median};

/// Times the whole set is put and got, with and without in turn.
const ROUNDS: usize = 21;

/// Pages per second beside those without, at least.
const TARGET: f64 = 0.98;

/// Percent of the shortest request that recording its time may take.
const SHARE: f64 = 2.0;

/// What was measured of one daemon in one round.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    cpu: Duration,
}

/// Measures each of them beside a daemon without. `untimed` is a build without histograms.
pub(super) fn run(
    program: &Path,
    untimed: Option<&Path>,
    pages: &[Page],
    report: &mut Report,
) -> Result<()> {
    let plain = || Peer::daemon(program, &[]);
    let unfiltered = Peer::daemon(program, &["--seccomp", "off"])?;
    pair(("filtered", unfiltered, plain()?), pages, report)?;
    match untimed {
        Some(untimed) => {
            let untimed = Peer::daemon(untimed, &[])?;
            pair(("timed", untimed, plain()?), pages, report)?;
        }
        None => report.note("no build without histograms given: what these cost is left out"),
    }
    let unpolled = Peer::daemon(program, &["--poll-max", "0"])?;
    pair(("polled", unpolled, plain()?), pages, report)?;
    let kept = Peer::kept_daemon(program)?;
    let fastest = pair(("kept outside", plain()?, kept), pages, report)?;
    recording(fastest, report);
    Ok(())
}

/// Measures by itself what is too little to be seen in rounds: that the time of a request is
/// recorded. `page` is the least time for a page, each put or got by a request of its own.
fn recording(page: Duration, report: &mut Report) {
    const TIMES: u32 = 100_000;
    let histogram = Histogram::default();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for nanoseconds in 0..TIMES {
            let took = Duration::from_nanos(u64::from(std::hint::black_box(nanoseconds)));
            histogram.record(took);
        }
        times.push(begin.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES));
    }
    let time = of(&times);
    report.metric("recording in a histogram", time, "ns");
    let share = time / (page.as_secs_f64() * 1e9) * 100.0;
    report.limit("recording, of the fastest request", share, "%", SHARE);
}

/// Measures a daemon with something beside one without, in turn, and says what it costs. The
/// least time for a page.
fn pair(
    (name, without, with): (&str, Peer, Peer),
    pages: &[Page],
    report: &mut Report,
) -> Result<Duration> {
    let mut without = Driver::connect(without, Tmem)?;
    let mut with = Driver::connect(with, Tmem)?;
    let mut fastest = Duration::MAX;
    for depth in DEPTHS {
        for (operation, write) in [("put", true), ("get", false)] {
            let (mut rates, mut cpu) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                // Who comes first is not always the same.
                let mut both = [&mut without, &mut with];
                both.rotate_left(round % 2);
                let mut costs = Vec::new();
                for driver in both {
                    costs.push(cost(driver, pages, depth, write)?);
                }
                costs.rotate_right(round % 2);
                if let [without, with] = costs.as_slice() {
                    fastest = fastest.min(without.time).min(with.time);
                    rates.push(without.time.as_secs_f64() / with.time.as_secs_f64());
                    cpu.push(with.cpu.as_secs_f64() / without.cpu.as_secs_f64());
                }
            }
            let what = format!("depth {depth}: {operation}, {name}");
            report.metric(format!("{what}: CPU time, ratio"), of(&cpu), "x");
            report.metric(format!("{what}: pages per second"), of(&rates), "x");
            report.metric(
                format!("{what}: half of rounds within"),
                spread(&rates),
                "x",
            );
            let what = format!("{what}, pages per second beside a daemon without");
            report.target_at_least(&what, of(&rates), TARGET);
        }
    }
    let pages = u32::try_from(pages.len()).unwrap_or(u32::MAX);
    Ok(fastest / pages.max(1))
}

fn of(ratios: &[f64]) -> f64 {
    median(ratios.iter().copied()).unwrap_or(f64::NAN)
}

/// How far apart the quartiles are: less than this, a difference may be noise.
fn spread(ratios: &[f64]) -> f64 {
    let mut ratios = ratios.to_vec();
    ratios.sort_by(f64::total_cmp);
    let quartile = |nth: usize| ratios.get(ratios.len() * nth / 4).copied();
    match (quartile(1), quartile(3)) {
        (Some(low), Some(high)) => high - low,
        _ => f64::NAN,
    }
}

fn cost(driver: &mut Driver<Tmem>, pages: &[Page], depth: usize, write: bool) -> Result<Cost> {
    let (cpu, begin) = (driver.cpu_time()?, Instant::now());
    let mut unused = Samples::default();
    if write {
        driver.write_all(pages, depth, &mut unused)?;
    } else if driver.read_all(pages, depth, &mut unused)? > 0 {
        bail!("pages came back other than they were put");
    }
    Ok(Cost {
        time: begin.elapsed(),
        cpu: driver.cpu_time()?.saturating_sub(cpu),
    })
}
