// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask bench instructions`: what a stock guest executes for a page.

use crate::assets;
use crate::assets::Guests;
use crate::bench;
use crate::exec;
use crate::programs::Profile;
use crate::project;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;
use tmem_e2e::Assets;

/// Options of `cargo xtask bench instructions`.
#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Options {
    /// Of `instructions`: also write to this file in which functions of the guest's kernel they are.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Of `instructions`: CPUs of the guest; 1 if not given.
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Of `instructions`: with the kernel's classic LRU, not the multi-generational one.
    #[arg(long)]
    classic_lru: bool,
}

/// The plugin for QEMU, and its file.
const COUNTER: &str = "tmem-counter";
const LIBRARY: &str = "release/libtmem_counter.so";

/// Counts.
pub(super) fn run(options: &bench::Options) -> Result<()> {
    let file = project::made()?.join("instructions-assets.json");
    assets::make(Profile::Release, Guests::Measured)?.write(&file)?;
    let program = bench::program()?;
    exec::shown(project::cargo().args(["build", "--release", "--package", COUNTER]))?;
    let mut bench = Command::new(program);
    bench
        .args(["--only", "instructions", "--counter"])
        .arg(project::target()?.join(LIBRARY))
        .env(Assets::VARIABLE, file);
    if options.quick {
        bench.arg("--quick");
    }
    if let Some(profile) = &options.instructions.profile {
        bench.arg("--profile").arg(profile);
    }
    if let Some(cpus) = options.instructions.cpus {
        bench.args(["--cpus", &cpus.to_string()]);
    }
    if options.instructions.classic_lru {
        bench.arg("--classic-lru");
    }
    if let Some(json) = &options.json {
        bench.arg("--json").arg(json);
    }
    exec::shown(&mut bench)
}
