// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask soak`: the filter's end-to-end tests, for hours; or a daemon that is killed.

use crate::e2e;
use crate::exec;
use crate::programs::Profile;
use anyhow::Result;
use std::process::Command;

/// Options of `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// For how long the session goes on.
    #[arg(long, default_value_t = 120)]
    minutes: u64,
    /// Only these file systems, beside the raw disk; all of them if not given.
    #[arg(long, value_parser = ["ext4", "xfs", "btrfs"])]
    filesystem: Vec<String>,
    /// From which its random choices follow; another one each time if not
    /// given.
    #[arg(long)]
    seed: Option<u32>,
    /// Only the session: neither a thousand filters on one disk, nor a swap
    /// partition with three times the memory.
    #[arg(long)]
    session: bool,
    /// Instead: kill the daemon so often at random moments under verifying load, and once
    /// at each of its system calls.
    #[arg(long, value_name = "N")]
    kills: Option<u32>,
    /// With --kills: under one and two stock guests, not the driver in user space.
    #[arg(long, requires = "kills")]
    guests: bool,
}

/// `cargo xtask soak`.
pub(crate) fn command(options: &Options) -> Result<()> {
    if let Some(kills) = options.kills {
        let mut tests = if options.guests {
            e2e::tests(Profile::Dev, Some("restart::"))?
        } else {
            let mut tests = Command::new("cargo");
            tests.args(["test", "--package", "vhost-user-tmem"]);
            tests.args(["--test", "conformance", "--", "restart::"]);
            tests
        };
        tests
            .arg("--nocapture")
            .env("TMEM_KILLS", kills.to_string());
        if let Some(seed) = options.seed {
            tests.env("TMEM_SEED", seed.to_string());
        }
        return exec::shown(&mut tests);
    }
    let filter = if options.session {
        "filter::soak::session"
    } else {
        "filter::soak"
    };
    // With the daemon's own checks on.
    let mut tests = e2e::tests(Profile::Dev, Some(filter))?;
    tests
        .args(["--ignored", "--nocapture"])
        .env("RUST_TEST_THREADS", "1")
        .env("TMEM_SOAK_MINUTES", options.minutes.to_string())
        .env("TMEM_SOAK_FILESYSTEMS", options.filesystem.join(","));
    if let Some(seed) = options.seed {
        tests.env("TMEM_E2E_SEED", seed.to_string());
    }
    exec::shown(&mut tests)
}
