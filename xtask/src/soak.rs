// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask soak`: the filter's end-to-end tests, for hours; or a daemon that is killed, or
//! that is told what to do; or a disk.

use crate::e2e;
use crate::exec;
use crate::programs::Profile;
use crate::project;
use anyhow::Context;
use anyhow::Result;
use std::path::PathBuf;
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
    /// Only filters of this kind, in the session; both in turn if not given.
    #[arg(long, value_parser = ["precache", "victim"])]
    kind: Option<String>,
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
    /// With --kills: each other daemon is this program, of an earlier or later build.
    #[arg(
        long,
        value_name = "PATH",
        requires = "kills",
        conflicts_with = "guests"
    )]
    older: Option<PathBuf>,
    /// Instead: use a virtio-blk disk as a disk for so many minutes, half of them with a file
    /// system on it, in a stock guest.
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["kills", "control"])]
    disk: Option<u64>,
    /// Instead: give a daemon random control operations under load for so many minutes, and
    /// look whether file descriptors, threads and memory stay what they are.
    #[arg(long, value_name = "MINUTES", conflicts_with = "kills")]
    control: Option<u64>,
}

/// A test of the daemon, which shows how it goes.
fn daemon_test(test: &str, filter: &str) -> Command {
    let mut cargo = project::cargo();
    cargo
        .args(["test", "--package", "vhost-user-tmem", "--test", test])
        .args(["--", filter, "--nocapture"]);
    cargo
}

/// `cargo xtask soak`.
pub(crate) fn command(options: &Options) -> Result<()> {
    if let Some(kills) = options.kills {
        let mut tests = if options.guests {
            let mut tests = e2e::tests(Profile::Dev, Some("restart::"))?;
            tests.args(["--include-ignored", "--nocapture"]);
            tests
        } else {
            daemon_test("conformance", "restart::")
        };
        tests.env("TMEM_KILLS", kills.to_string());
        if let Some(seed) = options.seed {
            tests.env("TMEM_SEED", seed.to_string());
        }
        if let Some(older) = &options.older {
            // Tests run in their crate's folder.
            let older = older.canonicalize();
            tests.env("TMEM_OLDER", older.context("no older daemon")?);
        }
        return exec::shown(&mut tests);
    }
    if let Some(minutes) = options.disk {
        let mut tests = e2e::tests(Profile::Dev, Some("blk::raw"))?;
        tests
            .arg("--nocapture")
            .env("TMEM_BLK_SECONDS", (minutes * 30).to_string());
        if let Some(seed) = options.seed {
            tests.env("TMEM_E2E_SEED", seed.to_string());
        }
        return exec::shown(&mut tests);
    }
    if let Some(minutes) = options.control {
        let mut tests = daemon_test("random", "");
        tests.env("TMEM_SOAK_SECONDS", (minutes * 60).to_string());
        if let Some(seed) = options.seed {
            tests.env("TMEM_SOAK_SEED", seed.to_string());
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
        .env("TMEM_SOAK_FILESYSTEMS", options.filesystem.join(","))
        .env(
            "TMEM_SOAK_KIND",
            options.kind.as_deref().unwrap_or_default(),
        );
    if let Some(seed) = options.seed {
        tests.env("TMEM_E2E_SEED", seed.to_string());
    }
    exec::shown(&mut tests)
}
