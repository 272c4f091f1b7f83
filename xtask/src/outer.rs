// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What guests of our own VMM need: the initramfs of an outer guest for the
//! VMM to run in, and a disk.

use crate::archive::Archive;
use crate::archive::FILE;
use crate::archive::PROGRAM;
use crate::disk;
use crate::programs::Programs;
use crate::project;
use crate::setup::Setup;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::path::Path;
use tmem_e2e::VmmAssets;

/// The disk's size, as mke2fs takes it.
const DISK_SIZE: &str = "96M";

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
    disk::make(initramfs, DISK_SIZE, &disk)?;
    Ok(VmmAssets {
        program: programs.vmm.clone(),
        vmlinuz,
        outer,
        disk,
    })
}
