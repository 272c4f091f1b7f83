// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask recipes`: what dist/recipes has for libvirt, systemd and Kata, tried with the
//! real programs of Debian 13. In a copy of a root that vanishes.

use crate::archive::Archive;
use crate::archive::PROGRAM;
use crate::exec;
use crate::guest;
use crate::initramfs;
use crate::programs;
use crate::programs::Profile;
use crate::project;
use crate::roots;
use crate::setup;
use crate::setup::Setup;
use crate::sources;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::path::Path;

/// What is done there.
const SCRIPT: &str = "tests/recipes/check";

/// The first program of the guests that are started.
const INIT: &str = "tests/recipes/init";

/// `cargo xtask recipes`.
pub(crate) fn command() -> Result<()> {
    check(&setup::ensure(false)?)
}

/// Fails unless each recipe gives a guest that swaps into the daemon.
pub(crate) fn check(setup: &Setup) -> Result<()> {
    let root = roots::recipes(&setup.cache, &setup.versions)?;
    let module = guest::module(&setup.cache, &setup.build, &setup.versions)?;
    // Linked statically, which is built for outer guests anyway.
    let daemon = programs::outer_programs(Profile::Dev)?.daemon;
    let in_guest = programs::in_guest()?;
    let (source, work) = (project::root(), project::made()?.join("recipes"));
    if work.exists() {
        fs::remove_dir_all(&work).context("cannot remove what the last run left")?;
    }
    let recipes = source.join("dist/recipes");
    sources::copy_tree(&recipes, &sources::files(&recipes)?, &work.join("recipes"))?;
    for folder in ["bin", "boot"] {
        fs::create_dir_all(work.join(folder)).context("cannot make a folder")?;
    }
    let initramfs = work.join("initramfs.cpio");
    initramfs::write(setup, &module, &in_guest, &initramfs)?;
    let mut archive = Archive::default();
    archive.file("init", PROGRAM, &source.join(INIT))?;
    archive.finish_after(&[&initramfs], &work.join("boot/initrd.img"))?;
    let release = &setup.versions.kernel;
    let kernel = format!("usr/lib/modules/{release}/vmlinuz");
    for (from, to) in [
        (source.join(SCRIPT), "check"),
        (
            source.join("dist/debian/vhost-user-tmem.service"),
            "vhost-user-tmem.service",
        ),
        (daemon, "bin/vhost-user-tmem"),
        (in_guest.tmemctl, "bin/tmemctl"),
        (setup.build.file(&kernel), "boot/vmlinuz"),
    ] {
        copy(&from, &work.join(to))?;
    }
    let log = setup.cache.log("recipes");
    let mut run = root.passing_script(&work, "sh /mnt/check");
    exec::logged("recipes", &mut run, &log, |line| {
        line.strip_prefix("== ").map(str::to_string)
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(|_| ())
        .with_context(|| format!("cannot copy {}", from.display()))
}
