// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What came of files, as tables, metrics and targets.

use std::time::Duration;

use super::reading::Reading;
use super::step::{AGAIN, FIRST, Reads, SECOND, SMALL_AGAIN, Step, Way};
use super::{FAST, Subject};
use crate::native::samples::Rounds;
use crate::report::Report;

/// Most that a reading may take whose blocks are put, to one of the disk alone.
const PUTTING: f64 = 1.03;

/// The least that the host is faster than the local disk, and than the volume.
const BESIDE_FAST: f64 = 1.3;
const BESIDE_SLOW: f64 = 5.0;

fn seconds(reading: &Reading) -> f64 {
    reading.seconds
}

fn median(reading: &Reading) -> f64 {
    reading.median
}

/// What tells how long a step takes: all of it if readahead is at work, so that single pieces
/// tell little, and else single pieces.
fn time(step: &Step) -> fn(&Reading) -> f64 {
    match step.reads {
        Reads::InOrder => seconds,
        Reads::Pieces(_) => median,
    }
}

/// The time that a step took to that of the disk alone.
fn to_alone(subject: &Subject, step: &Step, rounds: &Rounds<Reading>) -> Option<f64> {
    let alone = subject.rounds(Way::Alone, step.beside()?)?;
    let time = time(step);
    Some(rounds.ratio(time, alone, time))
}

fn disk(latency: Duration) -> String {
    format!("disk of {} us", latency.as_micros())
}

/// Prints a table of a disk in a guest that has the module `name`; with targets, if that is as it is
/// by default.
pub(super) fn subject(subject: &Subject, name: &str, is_default: bool, report: &mut Report) {
    let disk = disk(subject.latency);
    println!("\nfiles, {disk}, {name}");
    println!(
        "  {:<36} {:>8} {:>7} {:>10} {:>10} {:>9} {:>9} {:>8} {:>9}",
        "",
        "seconds",
        "MB/s",
        "median us",
        "p99 us",
        "to alone",
        "guest us",
        "host us",
        "from host"
    );
    for row in &subject.rows {
        let Some(step) = row.way.steps().get(row.step) else {
            continue;
        };
        let of = |value: fn(&Reading) -> f64| row.rounds.median(value);
        let ratio = to_alone(subject, step, &row.rounds).unwrap_or(f64::NAN);
        let what = format!("{}: {}", row.way.name(), step.name);
        println!(
            "  {what:<36} {:>8.3} {:>7.1} {:>10.1} {:>10.1} {ratio:>8.2}x {:>9.2} {:>8.2} {:>7.1} %",
            of(seconds),
            of(|reading| reading.speed),
            of(median),
            of(|reading| reading.p99),
            of(|reading| reading.guest_cpu),
            of(|reading| reading.host_cpu),
            of(|reading| reading.from_host) * 100.0,
        );
        metrics(
            report,
            subject,
            step,
            &row.rounds,
            &format!("files: {disk}: {name}: {what}"),
        );
    }
    if subject.fills > 0 {
        report.note(format!(
            "{disk}, {name}: up to {} more readings until the host had the files",
            subject.fills
        ));
    }
    if is_default {
        targets(report, subject, &disk);
    }
}

/// What is said of a reading: its name, unit and value.
type Value = (&'static str, &'static str, fn(&Reading) -> f64);

fn metrics(
    report: &mut Report,
    subject: &Subject,
    step: &Step,
    rounds: &Rounds<Reading>,
    what: &str,
) {
    let values: [Value; 7] = [
        ("seconds", "s", seconds),
        ("speed", "MB/s", |reading| reading.speed),
        ("median", "us", median),
        ("p99", "us", |reading| reading.p99),
        (
            "CPU time of the guest's kernel for a page",
            "us",
            |reading| reading.guest_cpu,
        ),
        ("CPU time of the back end for a page", "us", |reading| {
            reading.host_cpu
        }),
        ("pages from the host", "", |reading| reading.from_host),
    ];
    for (name, unit, value) in values {
        report.metric(format!("{what}: {name}"), rounds.median(value), unit);
    }
    if let Some(ratio) = to_alone(subject, step, rounds) {
        report.metric(format!("{what}: time to the disk alone"), ratio, "x");
    }
}

/// How many times as fast as the disk alone a step is.
fn faster(subject: &Subject, way: Way, wanted: &Step) -> Option<f64> {
    let step = way.steps().iter().position(|step| step == wanted)?;
    let ratio = to_alone(subject, wanted, subject.rounds(way, step)?)?;
    Some(1.0 / ratio)
}

fn targets(report: &mut Report, subject: &Subject, disk: &str) {
    let least = match subject.latency {
        FAST => BESIDE_FAST,
        _ => BESIDE_SLOW,
    };
    for way in [Way::Precache, Way::Victim] {
        let name = way.name();
        if let Some(faster) = faster(subject, way, &FIRST) {
            let what = format!("{disk}, {name}: files read for the first time, beside it alone");
            report.note(format!("{what}: {:.2}x", 1.0 / faster));
        }
        if let Some(faster) = faster(subject, way, &SECOND) {
            let what = format!("{disk}, {name}: files read a second time, beside it alone");
            report.target_at_most(&what, 1.0 / faster, PUTTING);
        }
        if let Some(faster) = faster(subject, way, &AGAIN) {
            let what = format!("{disk}, {name}: files read in order, as many times as fast");
            report.note(format!("{what}: {faster:.2}x"));
        }
        if let Some(faster) = faster(subject, way, &SMALL_AGAIN) {
            let what = format!("{disk}, {name}: pieces of 4 KiB, as many times as fast");
            report.target_at_least(&what, faster, least);
        }
    }
}
