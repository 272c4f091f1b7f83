// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask bench restart`: the daemon is killed under load, and the next one takes over.

use crate::bench;
use crate::exec;
use crate::programs;
use crate::programs::Profile;
use anyhow::Result;
use std::process::Command;

/// Options of `cargo xtask bench restart`.
#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Options {
    /// Of `restart`: MiB that the store holds [default: 4096].
    #[arg(long, value_name = "MIB")]
    held: Option<u64>,
    /// Of `restart`: how often the daemon is killed, for each number of CPUs [default: 50].
    #[arg(long)]
    kills: Option<u32>,
}

/// Measures it.
pub(super) fn run(options: &bench::Options) -> Result<()> {
    println!("building the daemon");
    let daemon = programs::daemon(Profile::Release)?;
    let mut bench = Command::new(bench::program()?);
    bench
        .args(["--only", "restart"])
        .arg("--daemon")
        .arg(daemon);
    if let Some(held) = options.restart.held {
        bench.args(["--held", &held.to_string()]);
    }
    if let Some(kills) = options.restart.kills {
        bench.args(["--kills", &kills.to_string()]);
    }
    if options.quick {
        bench.arg("--quick");
    }
    if let Some(out) = &options.out {
        bench.arg("--out").arg(out);
    }
    if let Some(json) = &options.json {
        bench.arg("--json").arg(json);
    }
    exec::shown(&mut bench)
}
