// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask image`: a small Debian system to try the VMM with.

use crate::disk;
use crate::exec;
use crate::guest;
use crate::initramfs;
use crate::programs;
use crate::project;
use crate::roots;
use crate::setup;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::path::PathBuf;

/// The disk's size, as mke2fs takes it; most of it is not there until it is
/// written.
const DISK_SIZE: &str = "2G";

/// Options of `cargo xtask image`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to put it [default: target/tmem/image].
    directory: Option<PathBuf>,
}

/// `cargo xtask image`.
pub(crate) fn command(options: &Options) -> Result<()> {
    let setup = setup::ensure(false)?;
    let module = guest::module(&setup.cache, &setup.build, &setup.versions)?;
    let root = roots::guest(&setup.cache, &setup.versions)?;
    let programs = programs::in_guest()?;
    let made = project::made()?;
    let dir = options.directory.clone().unwrap_or(made.join("image"));
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;

    println!("making a Debian system in {} (0.4 GB)", dir.display());
    let packed = setup.build.file(&format!(
        "usr/lib/modules/{}/vmlinuz",
        setup.versions.kernel
    ));
    let initrd = made.join("initramfs.cpio");
    initramfs::write(&setup, &module, &programs, &initrd)?;
    for (from, name) in [(&packed, "vmlinuz"), (&initrd, "initrd.img")] {
        fs::copy(from, dir.join(name))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    let system = made.join("console.cpio");
    initramfs::write_console(&setup, &module, &root, &programs::tmemctl()?, &system)?;
    disk::make(&system, DISK_SIZE, &dir.join("debian.raw"))?;
    fs::remove_file(&system).with_context(|| format!("cannot remove {}", system.display()))?;

    println!("building tmem-vmm");
    exec::shown(project::cargo().args(["build", "--release", "--package", "tmem-vmm"]))?;
    let program = project::target()?.join("release/tmem-vmm");
    println!(
        "\ncd {}\n{} --kernel vmlinuz --initrd initrd.img --disk debian.raw --memory 512M \
         --cpus 2 --tmem quota=4G\n\nCtrl-A x ends it.",
        dir.display(),
        program.display()
    );
    Ok(())
}
