// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a filter on a disk is good for: the same guests do the same work on the
//! same disks, with the disk alone, with the filter, and with the host's page
//! cache instead.
//!
//! Not measured beside each other but one after the other: a guest keeps the
//! machine busy. All that a guest reads is compared with what it must be.

mod content;
mod limit;
mod pieces;
mod plan;
mod resident;
mod session;
mod table;
mod volume;

use crate::guest::content::Content;
use crate::guest::pieces::Piece;
use crate::guest::plan::Plan;
use crate::guest::session::Session;
use crate::report;
use anyhow::Context;
use anyhow::Result;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;
use tmem_e2e::Assets;
use tmem_e2e::Host;

/// RAM of the guests, in MiB. Half of it is left when they have booted, which
/// one compiler needs most of.
const MEMORY_MIB: u64 = 192;

/// What guests are made of. `cargo xtask bench guest` names it all.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// A Debian system to take files from.
    #[arg(long, value_name = "DIR")]
    system: Option<PathBuf>,
    /// A directory with a compiler's `toolchain`, as a root, and `sources`.
    #[arg(long, value_name = "DIR")]
    build: Option<PathBuf>,
    /// Only the limited disk, and no builds.
    #[arg(long, conflicts_with = "quick")]
    reads: bool,
}

/// Measures it, and writes the metrics to `json`, too. If it is to be `quick`, only
/// the limited disk, and less of everything.
pub(crate) fn run(args: &Args, quick: bool, json: Option<&Path>) -> Result<()> {
    let assets = Assets::from_environment()?;
    let system = args.system.as_deref();
    let system = system.context("--system must name a Debian system to take files from")?;
    let start = Instant::now();
    let load = report::load();
    let plan = match (quick, args.reads) {
        (true, _) => Plan::quick(MEMORY_MIB),
        (_, true) => Plan::reads(MEMORY_MIB),
        _ => Plan::full(MEMORY_MIB),
    };
    let content = Content::make(&assets, system, args.build.as_deref(), plan.sizes)?;
    println!(
        "guests of {MEMORY_MIB} MiB, {}; {} files of {} MiB; a database of {} rows, {} MiB",
        match Host::is_virtualised() {
            true => "with KVM",
            false => "on an emulated CPU (TCG)",
        },
        content.files.count,
        content.files.bytes >> 20,
        content.scan.count,
        plan.sizes.database_mib,
    );
    println!("load of this machine before: {}", load.trim());
    let mut all: Vec<Piece> = Vec::new();
    for (number, one) in plan.sessions.iter().enumerate() {
        println!(
            "{:>5} s  guest {} of {}: {}, {}",
            start.elapsed().as_secs(),
            number + 1,
            plan.sessions.len(),
            table::disk(one.limit),
            one.way.name()
        );
        let session = Session::boot(&assets, &content.images(), one.way, one.limit, MEMORY_MIB)?;
        pieces::run(&session, &content, one.amounts, &mut |name, did| {
            println!(
                "{:>5} s    {name}: {:.1} s, {:.1} s of CPU time",
                start.elapsed().as_secs(),
                did.seconds,
                did.measured.cpu_seconds
            );
            all.push(Piece {
                name,
                way: one.way,
                limit: one.limit,
                did,
            });
        })?;
        session.end()?;
    }
    println!("{}", table::tables(&all));
    println!(
        "every byte that was read was right; {} s in all",
        start.elapsed().as_secs()
    );
    match json {
        Some(path) => report::write_json(path, &all),
        None => Ok(()),
    }
}
