// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask bench`: what the store and the daemon cost, beside their peers.

use crate::assets;
use crate::assets::Profile;
use crate::exec;
use crate::project;
use crate::setup;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to measure; both if not given.
    #[arg(value_parser = ["store", "vhost"])]
    only: Option<String>,
    /// Also write the figures to this file, as a JSON list.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Pages of each sort (process memory, files) to measure with.
    #[arg(long)]
    pages: Option<u64>,
}

/// `cargo xtask bench`.
pub(crate) fn command(options: &Options) -> Result<()> {
    let setup = setup::ensure(false)?;
    println!("building the daemon and the benchmarks");
    let daemon = assets::daemon(Profile::Release)?;
    exec::shown(project::cargo().args(["build", "--release", "--package", "tmem-bench"]))?;

    let mut bench = Command::new(daemon.with_file_name("tmem-bench"));
    bench.arg("--daemon").arg(&daemon);
    let (loader, words) = setup.qemu.loaded("usr/bin/qemu-storage-daemon");
    for word in std::iter::once(loader.into_os_string()).chain(words) {
        let mut argument = std::ffi::OsString::from("--storage-daemon=");
        argument.push(word);
        bench.arg(argument);
    }
    if let Some(only) = &options.only {
        bench.args(["--only", only]);
    }
    if let Some(json) = &options.json {
        bench.arg("--json").arg(json);
    }
    if let Some(pages) = options.pages {
        bench.args(["--pages", &pages.to_string()]);
    }
    exec::shown(&mut bench)
}
