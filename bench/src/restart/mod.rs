// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon is killed under load, and the next one takes over what it held.
//!
//! A front end that never connects anew sees nothing but a pause. How long that is, and how
//! much of it the index takes that is made anew, is measured for daemons on one CPU and more.

mod daemon;
mod load;
mod outcome;
mod table;

use crate::corpus::Corpus;
use crate::document;
use crate::machine;
use crate::report::{Report, write_json};
use crate::vhost;
use anyhow::{Context, Result, ensure};
use daemon::Host;
use load::{Clock, Load};
use outcome::{End, Outcome, Way};
use std::path::Path;
use std::time::Instant;

/// Seconds after which the next daemon serves, for 4 GiB that are held.
const TARGET_BACK: f64 = 1.0;
/// Seconds of pause, for 4 GiB.
const TARGET_PAUSE: f64 = 1.0;

/// MiB that are held.
const HELD: u64 = 4096;
const QUICK_HELD: u64 = 64;
const KILLS: u32 = 50;
const QUICK_KILLS: u32 = 3;
/// Ends of daemons that have all of it mapped, in each way: all is got before, which takes long.
const WHOLE: u32 = 4;
const QUICK_WHOLE: u32 = 2;
/// Pages of each sort.
const PAGES: usize = 8192;
const QUICK_PAGES: usize = 512;

/// Options of `cargo xtask bench restart`.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Of restart: MiB that the store holds [default: 4096].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    held: Option<u64>,
    /// Of restart: how often the daemon is killed, for each number of CPUs [default: 50].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    kills: Option<u32>,
}

/// Measures; writes a section of `restart.md` in `docs`, and the metrics to `json`, too.
pub(crate) fn run(
    args: &Args,
    peers: &vhost::Args,
    quick: bool,
    docs: Option<&Path>,
    json: Option<&Path>,
) -> Result<()> {
    let start = Instant::now();
    let machine = machine::describe();
    println!("{machine}");
    let (held, kills, pages) = if quick {
        (QUICK_HELD, QUICK_KILLS, QUICK_PAGES)
    } else {
        (HELD, KILLS, PAGES)
    };
    let held = args.held.unwrap_or(held) << 20;
    let kills = args.kills.unwrap_or(kills);
    let corpus = Corpus::collect(pages)?;
    println!("{}", corpus.describe());
    let mut host = Host::start(peers.daemon(), held)?;
    let mut load = Load::connect(host.socket()?, corpus.mixed())?;
    fill(&mut load, &host, held)?;

    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut outcomes = Vec::new();
    let cpus = cpus.min(2);
    for cpus in 1..=cpus {
        outcomes.push(measured(&mut host, &mut load, cpus, kills)?);
    }
    let ends = if quick { QUICK_WHOLE } else { WHOLE };
    for way in [Way::KilledWhole, Way::AskedWhole] {
        outcomes.push(measured_whole(&mut host, &mut load, cpus, way, ends)?);
    }
    load.check()?;

    let mut report = Report::default();
    for outcome in &outcomes {
        outcome.report(&mut report);
    }
    if quick {
        report.note("indicative only, a quick run: what a start costs anyway weighs much");
    }
    report.print();
    println!(
        "every page that was read was right; {} s in all",
        start.elapsed().as_secs()
    );
    if let Some(docs) = docs {
        let text = table::section(&machine, &corpus.describe(), &outcomes, report.verdicts());
        document::update_section(&docs.join("restart.md"), "pauses", &text)?;
    }
    match json {
        Some(path) => write_json(path, &outcomes),
        None => Ok(()),
    }
}

/// Puts pages until the store holds so many bytes, compressed.
fn fill(load: &mut Load, host: &Host, held: u64) -> Result<()> {
    let begin = Instant::now();
    let mut said = Instant::now();
    loop {
        let stats = host.stats()?;
        if stats.held >= held {
            if stats.deferred == 0 {
                break;
            }
            // What waits to be compressed will be less.
            std::thread::sleep(std::time::Duration::from_millis(20));
            continue;
        }
        if said.elapsed().as_secs() >= 10 {
            said = Instant::now();
            println!("holds {} of {} MiB", stats.held >> 20, held >> 20);
        }
        // A part of what is missing: most of it is not compressed at once.
        load.put(((held - stats.held) / 8192).max(64))?;
    }
    let stats = host.stats()?;
    println!(
        "holds {} MiB for {} pages, filled in {} s",
        stats.held >> 20,
        load.pages(),
        begin.elapsed().as_secs()
    );
    Ok(())
}

/// Kills the daemon so often, soon after it began; those that follow have so many CPUs.
fn measured(host: &mut Host, load: &mut Load, cpus: usize, kills: u32) -> Result<Outcome> {
    let mut seen = Vec::new();
    load.during(|clock| {
        // The first one that follows has other CPUs than the one that is killed.
        for nth in 0..=kills {
            let end = one_end(host, clock, cpus, Way::Killed)?;
            if nth > 0 {
                seen.push(end);
            }
        }
        Ok(())
    })?;
    outcome(host, load, (cpus, Way::Killed), seen)
}

/// Ends the daemon so often, each time after it has served every page.
fn measured_whole(
    host: &mut Host,
    load: &mut Load,
    cpus: usize,
    way: Way,
    ends: u32,
) -> Result<Outcome> {
    let mut seen = Vec::new();
    for _ in 0..ends {
        load.check()?;
        load.during(|clock| {
            seen.push(one_end(host, clock, cpus, way)?);
            Ok(())
        })?;
    }
    outcome(host, load, (cpus, way), seen)
}

/// Ends the daemon, and starts the next one.
fn one_end(host: &mut Host, clock: &Clock, cpus: usize, way: Way) -> Result<End> {
    clock.wait_for_some()?;
    clock.begin();
    let begin = Instant::now();
    host.end(way)?;
    let ended = begin.elapsed();
    let back = host.start_next(cpus)?;
    clock.wait_for_some()?;
    Ok(End {
        ended,
        back,
        pause: clock.longest(),
    })
}

fn outcome(host: &Host, load: &Load, how: (usize, Way), seen: Vec<End>) -> Result<Outcome> {
    let stats = host.stats()?;
    ensure!(stats.held > 0, "nothing is held");
    let outcome = Outcome::new(how, stats.held, load.pages(), seen).context("no end")?;
    println!("{}", outcome.line());
    Ok(outcome)
}
