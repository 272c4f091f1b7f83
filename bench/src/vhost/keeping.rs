// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What it costs that pages and connections outlive the daemon.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tmem_store::Page;

use super::DEPTHS;
use super::driver::Driver;
use super::peer::Peer;
use super::tmem::Tmem;
use crate::report::Report;
use crate::samples::{Samples, median};

/// Times the whole set is put and got, with and without a keeper in turn.
const ROUNDS: usize = 15;

/// Pages per second beside those without, at least.
const TARGET: f64 = 0.98;

/// What was measured of one daemon in one round, for a page.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    cpu: Duration,
}

/// Measures both, and says what the one with a keeper costs more.
pub(super) fn run(program: &Path, pages: &[Page], report: &mut Report) -> Result<()> {
    let mut plain = Driver::connect(Peer::daemon(program)?, Tmem)?;
    let mut kept = Driver::connect(Peer::kept_daemon(program)?, Tmem)?;
    for depth in DEPTHS {
        for (name, write) in [("put", true), ("get", false)] {
            let (mut times, mut cpu) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                // Who comes first is not always the same.
                let mut both = [&mut plain, &mut kept];
                both.rotate_left(round % 2);
                let mut costs = Vec::new();
                for driver in both {
                    costs.push(cost(driver, pages, depth, write)?);
                }
                costs.rotate_right(round % 2);
                if let [plain, kept] = costs.as_slice() {
                    times.push(plain.time.as_secs_f64() / kept.time.as_secs_f64());
                    cpu.push(kept.cpu.as_secs_f64() / plain.cpu.as_secs_f64());
                }
            }
            let of = |ratios: &[f64]| median(ratios.iter().copied()).unwrap_or(f64::NAN);
            let what = format!("depth {depth}: {name}, kept outside");
            report.metric(format!("{what}, CPU time, ratio"), of(&cpu), "x");
            report.target_at_least(
                &format!("{what}, pages per second beside a daemon without a keeper"),
                of(&times),
                TARGET,
            );
        }
    }
    Ok(())
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
