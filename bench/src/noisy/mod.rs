// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A quiet machine beside one that is as noisy or hostile as it can be.
//!
//! Both are served by one daemon. The quiet one has one request under way. It is alone and
//! beside each neighbour in turn, so that ratios hold on a machine that is busy otherwise. What
//! is no better beside a neighbour of another daemon is the work of the host's scheduler.

mod neighbour;

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tmem_store::Page;

use crate::corpus::Corpus;
use crate::report::Report;
use crate::samples::{Samples, median};
use crate::vhost::{Driver, Peer, Tmem};
use neighbour::{Beside, Of, Shared};

const ROUNDS: usize = 9;
const QUICK_ROUNDS: usize = 2;
/// Pages that the quiet machine puts and gets in a round.
const PAGES: usize = 4096;
const QUIET: &str = "quiet";
const OTHER: &str = "other";
/// Little enough that the neighbour is at its quota all the time.
const QUOTAS: [(&str, &str); 2] = [(QUIET, "1G"), (OTHER, "64M")];
/// Requests of a neighbour before anything is measured: so many pages fill its quota.
const WARM: u64 = 40_000;
/// Then, in each round.
const READY: u64 = 2_000;
/// Time that this may take.
const LOST: Duration = Duration::from_secs(120);
/// Most times the 99th percentile without a neighbour.
const TARGET: f64 = 2.0;

/// What was measured of one operation beside one neighbour.
#[derive(Default)]
struct Measured {
    all: Samples,
    /// 99th percentile of each round.
    p99: Vec<f64>,
}

/// Measures.
pub(crate) fn run(program: &Path, corpus: &Corpus, quick: bool, report: &mut Report) -> Result<()> {
    let mut pages = corpus.mixed();
    let mut peer = Peer::machines(program, &QUOTAS)?;
    let mut quiet = Driver::over(peer.connect_to(QUIET)?, Tmem)?;
    let mut elsewhere = Peer::machines(program, &QUOTAS)?;
    let mut sockets = Vec::new();
    for peer in [&mut peer, &mut elsewhere] {
        // It listens.
        drop(peer.connect_to(OTHER)?);
        sockets.push(peer.socket_of(OTHER));
    }
    let [here, there] = sockets.as_slice() else {
        bail!("no sockets");
    };
    let noise = pages.clone();
    pages.truncate(PAGES);
    // What is new is measured as little as what grows.
    for socket in [here, there] {
        beside(Beside::Noisy(Of::TheSame), socket, &noise, WARM, || Ok(()))?;
    }
    quiet.write_all(&pages, 1, &mut Samples::default())?;

    let mut measured = Beside::ALL.map(|who| (who, [(); 2].map(|()| Measured::default())));
    for _ in 0..if quick { QUICK_ROUNDS } else { ROUNDS } {
        for (who, [puts, gets]) in &mut measured {
            let socket = match who {
                Beside::Noisy(Of::Another) | Beside::Hostile(Of::Another) => there,
                Beside::Nobody | Beside::Noisy(_) | Beside::Hostile(_) => here,
            };
            beside(*who, socket, &noise, READY, || {
                one_round(&mut quiet, &pages, puts, gets)
            })?;
        }
    }
    for (nth, operation) in ["put", "get"].into_iter().enumerate() {
        let rows = measured
            .iter()
            .filter_map(|(who, both)| Some((*who, both.get(nth)?)));
        say(operation, &rows.collect::<Vec<_>>(), report);
    }
    if quick {
        report.note("indicative only, a quick run");
    }
    Ok(())
}

fn one_round(
    quiet: &mut Driver<Tmem>,
    pages: &[Page],
    puts: &mut Measured,
    gets: &mut Measured,
) -> Result<()> {
    for (measured, write) in [(puts, true), (gets, false)] {
        let mut round = Samples::default();
        let wrong = quiet.transfer(0, pages, 1, write, &mut |begin| {
            round.push(begin);
            measured.all.push(begin);
        })?;
        ensure!(
            wrong == 0,
            "{wrong} pages came back other than they were put"
        );
        measured.p99.push(round.p99());
    }
    Ok(())
}

/// Runs `measure` while a neighbour is there and at work.
fn beside(
    who: Beside,
    socket: &Path,
    pages: &[Page],
    ready: u64,
    measure: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let shared = Shared::default();
    let shared = &shared;
    std::thread::scope(|scope| {
        let mut machine = None;
        match who {
            Beside::Nobody => {}
            Beside::Noisy(_) => {
                machine = Some(scope.spawn(|| neighbour::noisy(socket, pages, shared)));
            }
            Beside::Hostile(_) => {
                machine = Some(scope.spawn(|| neighbour::hostile(socket, pages, shared)));
            }
        }
        let begin = Instant::now();
        let goes_on = || {
            machine
                .as_ref()
                .is_some_and(|machine| !machine.is_finished())
        };
        while goes_on() && shared.answered.load(Relaxed) < ready && begin.elapsed() < LOST {
            std::thread::sleep(Duration::from_millis(1));
        }
        let is_at_work = machine.is_none() || shared.answered.load(Relaxed) >= ready;
        let measured = if is_at_work { measure() } else { Ok(()) };
        shared.is_over.store(true, Relaxed);
        if let Some(machine) = machine {
            machine
                .join()
                .unwrap_or_else(|_| bail!("the neighbour panicked"))?;
        }
        ensure!(is_at_work, "the neighbour is not at work");
        measured
    })
}

/// Says how an operation of the quiet machine did beside all of them; the first is nobody.
fn say(operation: &str, rows: &[(Beside, &Measured)], report: &mut Report) {
    let [(nobody, alone), ..] = rows else {
        return;
    };
    for (who, measured) in rows {
        let name = format!("{operation}, {}", who.name());
        let pairs = [
            ("median", measured.all.median(), alone.all.median()),
            ("p99", measured.all.p99(), alone.all.p99()),
        ];
        for (what, value, other) in pairs {
            report.against(format!("{name}: {what}"), value, "us", nobody.name(), other);
        }
        let elsewhere = who.elsewhere();
        if let Some((elsewhere, control)) = rows.iter().find(|(it, _)| Some(*it) == elsewhere) {
            let what = format!("{name}: p99, median of rounds");
            let beside = format!("{what}, {}", elsewhere.name());
            report.metric(beside, ratio(measured, control), "x");
            report.target_at_most(&what, ratio(measured, alone), TARGET);
        }
    }
}

/// Of 99th percentiles. Rounds follow each other closely, so that each has its own measure.
fn ratio(one: &Measured, other: &Measured) -> f64 {
    let rounds = one.p99.iter().zip(&other.p99);
    median(rounds.map(|(one, other)| one / other)).unwrap_or(f64::NAN)
}
