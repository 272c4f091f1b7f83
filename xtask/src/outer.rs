// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What guests of our own VMM need: the initramfs of an outer guest for the
//! VMM to run in, and a disk.

use crate::archive;
use crate::archive::Archive;
use crate::archive::FILE;
use crate::archive::PROGRAM;
use crate::cache;
use crate::exec;
use crate::host;
use crate::project;
use crate::setup::Setup;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use tmem_e2e::VmmAssets;

/// The disk's size, as mke2fs takes it.
const DISK_SIZE: &str = "96M";

/// Where file systems in memory are mounted, and nothing is.
const MOUNT_POINTS: &[&str] = &["dev", "proc", "sys", "run", "tmp"];

/// Programs for the outer guest, linked statically.
pub(crate) struct Programs {
    pub(crate) vmm: PathBuf,
    pub(crate) daemon: PathBuf,
}

/// Makes all of it; `initramfs` is the small guest's.
pub(crate) fn make(setup: &Setup, programs: &Programs, initramfs: &Path) -> Result<VmmAssets> {
    let made = project::made()?;
    // The kernel with its initrd beside it, as Debian has them in /boot.
    let boot = made.join("boot");
    fs::create_dir_all(&boot).with_context(|| format!("cannot make {}", boot.display()))?;
    let release = &setup.versions.kernel;
    let packed = setup
        .build
        .file(&format!("usr/lib/modules/{release}/vmlinuz"));
    let vmlinuz = boot.join("vmlinuz");
    for (from, to) in [
        (packed.as_path(), &vmlinuz),
        (initramfs, &boot.join("initrd.img")),
    ] {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    let outer = made.join("outer.cpio");
    let mut archive = Archive::default();
    archive.file("usr/bin/tmem-vmm", PROGRAM, &programs.vmm)?;
    archive.file("usr/bin/vhost-user-tmem", PROGRAM, &programs.daemon)?;
    archive.file("boot/vmlinux", FILE, &setup.kernel)?;
    archive.tree(&made, "boot", &|_| false)?;
    archive.finish_after(&[initramfs], &outer)?;
    let disk = made.join("disk.raw");
    make_disk(initramfs, &disk)?;
    Ok(VmmAssets {
        program: programs.vmm.clone(),
        vmlinuz,
        outer,
        disk,
    })
}

/// Makes a disk with an ext4 file system that holds what `initramfs` does,
/// without mounting it.
fn make_disk(initramfs: &Path, disk: &Path) -> Result<()> {
    let tree = disk.with_extension("work");
    if tree.exists() {
        cache::remove_tree(&tree)?;
    }
    for name in MOUNT_POINTS {
        fs::create_dir_all(tree.join(name)).context("cannot make the disk's tree")?;
    }
    archive::unpack(initramfs, &tree)?;
    let unfinished = disk.with_extension("tmp");
    let program = host::on_path("mke2fs").context("mke2fs is not installed")?;
    let mut command = Command::new(program);
    command
        .args(["-q", "-F", "-t", "ext4", "-b", "4096"])
        .args(["-L", "tmem-root", "-m", "0"])
        .args(["-E", "root_owner=0:0,lazy_itable_init=0", "-d"])
        .arg(&tree)
        .arg(&unfinished)
        .arg(DISK_SIZE);
    // A file from before would keep its size.
    let _ = fs::remove_file(&unfinished);
    exec::output(&mut command)?;
    fs::rename(&unfinished, disk).with_context(|| format!("cannot write {}", disk.display()))
}
