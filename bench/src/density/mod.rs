// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How many guests fit into a host's memory: the same guests do the same work
//! within the same limit, and only where their pages go differs.
//!
//! Guests are busy one after the other and idle in between. Each has more memory
//! than its share, and keeps most of what it used; all of them together want more
//! than there is. What the host holds is read from the control group, never from
//! the daemon.

mod bench;
mod budget;
mod cold;
mod guests;
mod member;
mod outcome;
mod plan;
mod plot;
mod quiet;
mod report;
mod run;
mod samples;
mod table;
mod way;

use crate::density::bench::Bench;
use crate::density::member::Expected;
use crate::density::plan::Plan;
use crate::density::report::Report;
use crate::density::way::Way;
use crate::document;
use crate::report::write_json;
use anyhow::Context;
use anyhow::Result;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;
use tmem_e2e::Assets;

/// What is to be compared. `cargo xtask bench density` names the places.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// A directory on a disk, for swap disks.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Only these variants: nothing, reporting, zram, disk, tmem.
    #[arg(long, value_name = "VARIANT", value_delimiter = ',')]
    ways: Vec<Way>,
}

/// Runs all variants; writes a section of the document in `docs`, and the metrics to `json`,
/// too.
pub(crate) fn run(
    args: &Args,
    quick: bool,
    docs: Option<&Path>,
    json: Option<&Path>,
) -> Result<()> {
    // Before anything takes time.
    budget::Budget::new(1 << 30)?.end()?;
    let assets = Assets::from_environment()?;
    let scratch = args.scratch.as_deref();
    let scratch = scratch.context("--scratch must name a directory on a disk")?;
    let dir = tempfile::Builder::new()
        .prefix("density-")
        .tempdir_in(scratch)
        .with_context(|| format!("cannot make a directory in {}", scratch.display()))?;
    let plan = if quick { Plan::QUICK } else { Plan::WHOLE };
    let expected = Expected::of(&plan, dir.path())?;
    let load_before = quiet::wait();
    let start = Instant::now();
    let bench = Bench {
        assets: &assets,
        plan,
        expected: &expected,
        dir: dir.path(),
    };
    let ways = match args.ways.as_slice() {
        [] => &Way::ALL,
        ways => ways,
    };
    let mut outcomes = Vec::new();
    for way in ways {
        outcomes.push(bench.run(*way)?);
    }
    let report = Report {
        plan: &plan,
        quick,
        outcomes: &outcomes,
        load_before,
        seconds: start.elapsed().as_secs(),
    };
    println!("\n{}", report.summary());
    if let Some(docs) = docs {
        document::update(docs, "guests", &report.text(), &report.picture()?)?;
    }
    match json {
        Some(path) => write_json(path, &outcomes),
        None => Ok(()),
    }
}
