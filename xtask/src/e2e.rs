// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask e2e`: real guests on a real daemon.

use crate::assets;
use crate::assets::Guests;
use crate::exec;
use crate::programs::Profile;
use crate::project;
use anyhow::Result;
use std::process::Command;
use tmem_e2e::Assets;

/// Guests at a time: each keeps more than one CPU busy.
const PARALLEL: &str = "2";

/// Tests with this in front need guests with stable kernels only, which are made soon.
const STOCK: &str = "blk::";

/// Options of `cargo xtask e2e`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run only tests whose name contains this.
    filter: Option<String>,
    /// Run the daemon as it is shipped, without debug assertions.
    #[arg(long)]
    release: bool,
}

/// `cargo xtask e2e`.
pub(crate) fn command(options: &Options) -> Result<()> {
    let profile = if options.release {
        Profile::Release
    } else {
        Profile::Dev
    };
    exec::shown(&mut tests(profile, options.filter.as_deref())?)
}

/// The command that runs the tests, with all they need made.
pub(crate) fn tests(profile: Profile, filter: Option<&str>) -> Result<Command> {
    let file = project::made()?.join("assets.json");
    let guests = match filter {
        Some(filter) if filter.starts_with(STOCK) => Guests::Stock,
        _ => Guests::All,
    };
    assets::make(profile, guests)?.write(&file)?;
    let mut cargo = project::cargo();
    cargo
        .args(["test", "--package", "tmem-e2e", "--features", "guests"])
        .args(["--test", "e2e", "--"])
        .args(filter)
        .env("RUST_TEST_THREADS", PARALLEL)
        .env(Assets::VARIABLE, file)
        // Errors say what was waited for; where in the test does not matter.
        .env("RUST_BACKTRACE", "0");
    Ok(cargo)
}
