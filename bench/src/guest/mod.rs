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
mod resident;
mod session;
mod table;
mod volume;

use crate::guest::content::Content;
use crate::guest::content::Sizes;
use crate::guest::limit::Limit;
use crate::guest::pieces::Amounts;
use crate::guest::pieces::Piece;
use crate::guest::session::Session;
use crate::guest::session::Way;
use anyhow::Context;
use anyhow::Result;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;
use tmem_e2e::Assets;
use tmem_e2e::Host;

/// RAM of the guests, in MiB.
const MEMORY_MIB: u64 = 160;

/// What is on the disks: the files are twice the memory, the database is more than it.
const SIZES: Sizes = Sizes {
    files_mib: 2 * MEMORY_MIB,
    database_mib: 176,
};

/// Names the file of assets.
const ASSETS: &str = "TMEM_E2E_ASSETS";

/// What guests are made of. `cargo xtask bench guest` names it all.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Debian system to take files from.
    #[arg(long, value_name = "DIR")]
    system: Option<PathBuf>,
    /// A directory with a compiler's `toolchain`, as a root, and `sources`.
    #[arg(long, value_name = "DIR")]
    build: Option<PathBuf>,
    /// Only the limited disk, without the build, and less of everything; of
    /// density, less of everything.
    #[arg(long)]
    pub(crate) quick: bool,
}

/// Measures it, and writes the figures to `json`, too.
pub(crate) fn run(args: &Args, json: Option<&Path>) -> Result<()> {
    let assets = Assets::from_environment()
        .with_context(|| format!("{ASSETS} must name what guests are made of"))?;
    let system = args.system.as_deref();
    let system = system.context("--system must name a Debian system to take files from")?;
    let start = Instant::now();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let build = args.build.as_deref().filter(|_| !args.quick);
    let content = Content::make(&assets, system, build, SIZES)?;
    println!(
        "guests of {MEMORY_MIB} MiB, {}; {} files of {} MiB; a database of {} rows, {} MiB",
        match Host::is_virtualised() {
            true => "with KVM",
            false => "on an emulated CPU (TCG)",
        },
        content.files.count,
        content.files.bytes >> 20,
        content.scan.count,
        SIZES.database_mib,
    );
    // What else runs here makes guests slow, and the more so on an emulated CPU.
    println!("load of this machine before: {}", load.trim());
    let amounts = match args.quick {
        true => Amounts {
            passes: 3,
            rounds: 1,
            rows: 10_000,
            builds: 0,
        },
        false => Amounts {
            passes: 3,
            rounds: 2,
            rows: 20_000,
            builds: 2,
        },
    };
    let limits: &[Option<Limit>] = match args.quick {
        true => &[Some(Limit::CLOUD)],
        false => &[Some(Limit::CLOUD), None],
    };
    let ways = [Way::Disk, Way::Precache, Way::Eager, Way::HostCache];
    let mut all: Vec<Piece> = Vec::new();
    for limit in limits {
        for way in ways {
            let session = Session::boot(&assets, &content.images(), way, *limit, MEMORY_MIB)?;
            pieces::run(
                &session,
                &content,
                amounts,
                &mut |name, seconds, measured| {
                    println!(
                        "  {:>4} s  {}, {name}: {seconds:.1} s",
                        start.elapsed().as_secs(),
                        way.name()
                    );
                    all.push(Piece {
                        name,
                        way,
                        limited: limit.is_some(),
                        seconds,
                        measured,
                    });
                },
            )?;
            session.end()?;
        }
    }
    println!("{}", table::tables(&all));
    println!(
        "every byte that was read was right; {} s in all",
        start.elapsed().as_secs()
    );
    if let Some(path) = json {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        serde_json::to_writer_pretty(file, &all)?;
    }
    Ok(())
}
