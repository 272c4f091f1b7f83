// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What came of it, as a table, and as metrics with targets.

use super::samples::{Round, Rounds};
use super::subject::{BESIDE, MEASURES, READ, Subject};
use crate::report::Report;

/// Most that a read may take, to one of zram.
const BESIDE_ZRAM: f64 = 3.0;

/// Most that a read may take, to one of an older build.
const BESIDE_OLDER: f64 = 0.35;

/// Most that the 99th percentile of reads beside writes may be, to that of reads alone.
const BESIDE_WRITES: f64 = 3.0;

/// Who only tells what the rest of the way costs.
const FLOOR: &str = "RAM disk";

/// The name of the build that others are compared with.
pub(super) const OLDER: &str = "older module";

fn median(round: &Round) -> f64 {
    round.median
}

fn p99(round: &Round) -> f64 {
    round.p99
}

/// Prints what was measured of raw disks, with metrics and targets for the report.
pub(super) fn raw(subjects: &[Subject], report: &mut Report) {
    let Some((ours, others)) = subjects.split_first() else {
        return;
    };
    for (which, measure) in MEASURES.iter().enumerate() {
        println!("\n{}", measure.name);
        println!(
            "  {:<24} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9} {:>9}",
            "", "median us", "p99 us", "pages/s", "to ours", "guest us", "host us", "writes/s"
        );
        for subject in subjects {
            let (Some(rounds), Some(own)) = (subject.rounds.get(which), ours.rounds.get(which))
            else {
                continue;
            };
            let ratio = match measure.is_one_by_one() {
                true => rounds.ratio(median, own, median),
                false => own.ratio(|round| round.rate, rounds, |round| round.rate),
            };
            println!(
                "  {:<24} {:>9.1} {:>9.1} {:>9.0} {:>7.2}x {:>9.2} {:>9.2} {:>9.0}",
                subject.name,
                rounds.median(median),
                rounds.median(p99),
                rounds.median(|round| round.rate),
                ratio,
                rounds.median(|round| round.guest_cpu),
                rounds.median(|round| round.host_cpu),
                rounds.median(|round| round.writes),
            );
            metrics(
                report,
                measure.name,
                &subject.name,
                rounds,
                (&ours.name, own),
            );
        }
    }
    println!();
    let Some(read) = ours.rounds.get(READ) else {
        return;
    };
    let named = |name: &str| {
        let subject = others.iter().find(|subject| subject.name == name);
        subject.and_then(|subject| subject.rounds.get(READ))
    };
    if let Some(zram) = named("zram") {
        let what = "a page read at depth 1, median beside zram's";
        report.target_at_most(what, read.ratio(median, zram, median), BESIDE_ZRAM);
        if let Some(floor) = named(FLOOR).map(|floor| floor.median(median)) {
            report.note(format!(
                "without what the same takes on a RAM disk, {floor:.1} us: {:.2}x",
                (read.median(median) - floor) / (zram.median(median) - floor)
            ));
        }
    }
    if let Some(older) = named(OLDER) {
        let what = "a page read at depth 1, median beside the older module's";
        report.target_at_most(what, read.ratio(median, older, median), BESIDE_OLDER);
    }
    for subject in subjects {
        let (Some(alone), Some(beside)) = (subject.rounds.get(READ), subject.rounds.get(BESIDE))
        else {
            continue;
        };
        let ratio = beside.ratio(p99, alone, p99);
        let what = format!(
            "{}: 99th percentile of reads beside writes, to that alone",
            subject.name
        );
        match subject.guest == ours.guest && subject.name != ours.name {
            // Others have no target.
            true => report.note(format!("{what}: {ratio:.2}x")),
            false => report.target_at_most(&what, ratio, BESIDE_WRITES),
        }
    }
}

/// What is said of a round: its name, unit and value.
type Value = (&'static str, &'static str, fn(&Round) -> f64);

fn metrics(
    report: &mut Report,
    measure: &str,
    name: &str,
    rounds: &Rounds,
    (ours, own): (&str, &Rounds),
) {
    let values: [Value; 6] = [
        ("median", "us", median),
        ("p99", "us", p99),
        ("pages per second", "1/s", |round| round.rate),
        ("CPU time of the guest's kernel", "us", |round| {
            round.guest_cpu
        }),
        ("CPU time of the back end", "us", |round| round.host_cpu),
        ("writes per second", "1/s", |round| round.writes),
    ];
    for (what, unit, value) in values {
        let metric = format!("{measure}: {name}: {what}");
        match name == ours {
            true => report.metric(metric, rounds.median(value), unit),
            false => report.against(metric, rounds.median(value), unit, ours, own.median(value)),
        }
    }
}
