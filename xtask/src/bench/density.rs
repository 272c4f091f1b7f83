// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask bench density`: how many guests fit into a host's memory.

use crate::assets;
use crate::assets::Guests;
use crate::bench;
use crate::exec;
use crate::programs::Profile;
use crate::project;
use anyhow::Result;
use std::process::Command;
use tmem_e2e::Assets;

/// Options of `cargo xtask bench density`.
#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Options {
    /// Of `density`: only these variants of nothing, reporting, zram, disk, tmem.
    #[arg(long, value_name = "VARIANTS")]
    ways: Option<String>,
}

/// Measures it.
pub(super) fn run(options: &bench::Options) -> Result<()> {
    let made = project::made()?;
    let file = made.join("density-assets.json");
    assets::make(Profile::Release, Guests::Dense)?.write(&file)?;
    let program = bench::program()?;
    let out = match &options.out {
        Some(out) => out.clone(),
        None => project::root().join("docs"),
    };
    let mut bench = Command::new(program);
    bench
        .args(["--only", "density", "--scratch"])
        .arg(&made)
        .arg("--out")
        .arg(&out)
        .env(Assets::VARIABLE, file);
    if options.quick {
        bench.arg("--quick");
    }
    if let Some(ways) = &options.density.ways {
        bench.args(["--ways", ways]);
    }
    if let Some(json) = &options.json {
        bench.arg("--json").arg(json);
    }
    exec::shown(&mut bench)
}
