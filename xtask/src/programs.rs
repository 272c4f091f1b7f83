// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The programs of this project, built.

use crate::exec;
use crate::project;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// How the daemon and the VMM are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As it is shipped.
    Release,
    /// With overflow checks and debug assertions.
    Dev,
}

/// Where a program runs that is linked statically, so that it needs nothing of
/// a guest.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// The profile of what runs in guests under test.
const GUEST: &str = "guest";

/// That of what is shipped.
const RELEASE: &str = "release";

/// Programs, which are called as their packages are, but for one more of the driver's.
const AGENT: &str = "tmem-agent";
const DAEMON: &str = "vhost-user-tmem";
const DRIVER: &str = "tmem-driver";
const FAILING_AREA: &str = "tmem-failing-area";
const LOAD: &str = "tmem-load";
const TMEMCTL: &str = "tmemctl";
const VMM: &str = "tmem-vmm";

/// The programs of this project that run in guests.
pub(crate) struct InGuest {
    /// Process 1 of a small guest, or a service.
    pub(crate) agent: PathBuf,
    /// What attaches filters.
    pub(crate) tmemctl: PathBuf,
}

/// Programs for the outer guest, linked statically.
pub(crate) struct Programs {
    pub(crate) vmm: PathBuf,
    pub(crate) daemon: PathBuf,
}

/// Builds all that runs in guests, at once: later it is only found.
pub(crate) fn for_guests() -> Result<()> {
    let all = [AGENT, DAEMON, DRIVER, FAILING_AREA, LOAD, TMEMCTL, VMM];
    linked_statically(GUEST, &all).map(drop)
}

/// Builds the load for disks and file systems.
pub(crate) fn load() -> Result<PathBuf> {
    Ok(linked_statically(GUEST, &[LOAD])?.join(LOAD))
}

/// Builds the driver in user space.
pub(crate) fn driver() -> Result<PathBuf> {
    Ok(linked_statically(GUEST, &[DRIVER])?.join(DRIVER))
}

/// Builds the daemon for a guest, and what has its spill area fail there.
pub(crate) fn failing_area() -> Result<[PathBuf; 2]> {
    let both = [DAEMON, FAILING_AREA];
    let dir = linked_statically(GUEST, &both)?;
    Ok(both.map(|program| dir.join(program)))
}

/// Builds the daemon.
pub(crate) fn daemon(profile: Profile) -> Result<PathBuf> {
    let mut cargo = match profile {
        Profile::Release => {
            let mut cargo = project::cargo();
            cargo.args(["build", "--release", "--package", DAEMON]);
            cargo
        }
        Profile::Dev => {
            // With its smallest test: so it is built.
            let mut cargo = tests();
            cargo.args(["--no-run", "--quiet", "--test", "readme"]);
            cargo
        }
    };
    exec::shown(&mut cargo)?;
    daemon_of(profile)
}

/// Where the daemon is once it is built.
pub(crate) fn daemon_of(profile: Profile) -> Result<PathBuf> {
    let dir = match profile {
        Profile::Release => RELEASE,
        Profile::Dev => "debug",
    };
    Ok(project::target()?.join(dir).join(DAEMON))
}

/// A `cargo test` in the whole workspace, whatever of it is run: with other features, nearly
/// everything would be built once more.
pub(crate) fn tests() -> Command {
    let mut cargo = project::cargo();
    cargo.args(["test", "--workspace"]);
    cargo
}

/// Builds what runs in guests.
pub(crate) fn in_guest() -> Result<InGuest> {
    let dir = linked_statically(GUEST, &[AGENT, TMEMCTL])?;
    Ok(InGuest {
        agent: dir.join(AGENT),
        tmemctl: dir.join(TMEMCTL),
    })
}

/// Builds tmemctl as people install it.
pub(crate) fn tmemctl() -> Result<PathBuf> {
    Ok(linked_statically(RELEASE, &[TMEMCTL])?.join(TMEMCTL))
}

/// Builds the programs as packages have them: tmemctl also goes into guests whose system
/// is another. Under test these are the programs that other guests have, too.
pub(crate) fn packaged(profile: Profile) -> Result<Vec<PathBuf>> {
    if profile == Profile::Dev {
        let all = [DAEMON, VMM, TMEMCTL];
        let dir = linked_statically(GUEST, &all)?;
        return Ok(all.map(|program| dir.join(program)).into());
    }
    let both = ["--package", DAEMON, "--package", VMM];
    exec::shown(project::cargo().args(["build", "--release"]).args(both))?;
    let dir = project::target()?.join(RELEASE);
    Ok(vec![dir.join(DAEMON), dir.join(VMM), tmemctl()?])
}

/// Builds the VMM and the daemon for an outer guest.
pub(crate) fn outer_programs(profile: Profile) -> Result<Programs> {
    let profile = match profile {
        Profile::Release => RELEASE,
        Profile::Dev => GUEST,
    };
    let dir = linked_statically(profile, &[VMM, DAEMON])?;
    Ok(Programs {
        vmm: dir.join(VMM),
        daemon: dir.join(DAEMON),
    })
}

/// Builds the programs of `packages`; gives back the directory that they are in.
pub(crate) fn linked_statically(profile: &str, packages: &[&str]) -> Result<PathBuf> {
    let mut cargo = project::cargo();
    cargo.args(["build", "--profile", profile, "--target", TRIPLE]);
    // Under test all have the same features, so that what they share is built once.
    let chosen = match profile {
        GUEST => {
            cargo.arg("--workspace");
            "--bin"
        }
        _ => "--package",
    };
    for package in packages {
        cargo.args([chosen, package]);
    }
    exec::shown(cargo.env("RUSTFLAGS", "-Ctarget-feature=+crt-static"))?;
    Ok(project::target()?.join(TRIPLE).join(profile))
}
