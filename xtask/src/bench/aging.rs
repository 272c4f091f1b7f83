// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask bench aging`: what a page costs as the store ages, beside zram.

use crate::bench;
use crate::exec;
use anyhow::Result;
use std::process::Command;

/// Options of `cargo xtask bench aging`.
#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Options {
    /// Of `aging`: what is freed and put again follows from it [default: 1].
    #[arg(long)]
    seed: Option<u64>,
}

/// Measures it.
pub(super) fn run(options: &bench::Options) -> Result<()> {
    let mut bench = Command::new(bench::program()?);
    bench.args(["--only", "aging"]);
    if let Some(seed) = options.aging.seed {
        bench.args(["--seed", &seed.to_string()]);
    }
    if options.quick {
        bench.arg("--quick");
    }
    if let Some(pages) = options.pages {
        bench.args(["--pages", &pages.to_string()]);
    }
    if let Some(out) = &options.out {
        bench.arg("--out").arg(out);
    }
    if let Some(json) = &options.json {
        bench.arg("--json").arg(json);
    }
    exec::shown(&mut bench)
}
