// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The programs of this project, built.

use crate::exec;
use crate::project;
use anyhow::Result;
use std::path::PathBuf;

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

/// Builds the load for disks and file systems.
pub(crate) fn load() -> Result<PathBuf> {
    Ok(linked_statically("guest", &["tmem-load"])?.join("tmem-load"))
}

/// Builds the driver in user space.
pub(crate) fn driver() -> Result<PathBuf> {
    Ok(linked_statically("guest", &["tmem-driver"])?.join("tmem-driver"))
}

/// Builds the daemon.
pub(crate) fn daemon(profile: Profile) -> Result<PathBuf> {
    let mut cargo = project::cargo();
    cargo.args(["build", "--package", "vhost-user-tmem"]);
    let dir = match profile {
        Profile::Release => {
            cargo.arg("--release");
            "release"
        }
        Profile::Dev => "debug",
    };
    exec::shown(&mut cargo)?;
    Ok(project::target()?.join(dir).join("vhost-user-tmem"))
}

/// Builds what runs in guests.
pub(crate) fn in_guest() -> Result<InGuest> {
    let dir = linked_statically("guest", &["tmem-agent", "tmemctl"])?;
    Ok(InGuest {
        agent: dir.join("tmem-agent"),
        tmemctl: dir.join("tmemctl"),
    })
}

/// Builds tmemctl as people install it.
pub(crate) fn tmemctl() -> Result<PathBuf> {
    Ok(linked_statically("release", &["tmemctl"])?.join("tmemctl"))
}

/// Builds the programs as packages have them: tmemctl also goes into guests whose system
/// is another.
pub(crate) fn packaged() -> Result<Vec<PathBuf>> {
    let mut programs = vec![daemon(Profile::Release)?];
    let vmm = ["build", "--release", "--package", "tmem-vmm"];
    exec::shown(project::cargo().args(vmm))?;
    programs.push(project::target()?.join("release/tmem-vmm"));
    programs.push(tmemctl()?);
    Ok(programs)
}

/// Builds the VMM and the daemon for an outer guest.
pub(crate) fn outer_programs(profile: Profile) -> Result<Programs> {
    let profile = match profile {
        Profile::Release => "release",
        Profile::Dev => "guest",
    };
    let dir = linked_statically(profile, &["tmem-vmm", "vhost-user-tmem"])?;
    Ok(Programs {
        vmm: dir.join("tmem-vmm"),
        daemon: dir.join("vhost-user-tmem"),
    })
}

/// Builds the programs of `packages`; gives back the directory that they are in.
pub(crate) fn linked_statically(profile: &str, packages: &[&str]) -> Result<PathBuf> {
    let mut cargo = project::cargo();
    cargo.args(["build", "--profile", profile, "--target", TRIPLE]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    exec::shown(cargo.env("RUSTFLAGS", "-Ctarget-feature=+crt-static"))?;
    Ok(project::target()?.join(TRIPLE).join(profile))
}
