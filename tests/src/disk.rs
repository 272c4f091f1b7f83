// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk image that a guest may write to.

use crate::assets::Assets;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// Debian has it outside an ordinary user's PATH.
const E2FSCK: [&str; 3] = ["e2fsck", "/usr/sbin/e2fsck", "/sbin/e2fsck"];

/// A disk with an ext4 file system that is the root of a small guest. Its own
/// copy, gone when it is dropped.
pub struct Disk {
    dir: TempDir,
}

impl Disk {
    /// A new disk.
    ///
    /// # Errors
    /// It was not made, or cannot be copied.
    pub fn new(assets: &Assets) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("tmem-disk-")
            .tempdir()
            .context("cannot make a directory for a disk")?;
        let disk = Self { dir };
        std::fs::copy(&assets.vmm()?.disk, disk.path()).context("cannot copy the disk")?;
        Ok(disk)
    }

    /// The image.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("disk.raw")
    }

    /// Fails unless the file system is whole, and was left in order. Nobody may
    /// be writing to it.
    ///
    /// # Errors
    /// It is damaged.
    pub fn check(&self) -> Result<()> {
        let program = E2FSCK.iter().find(|path| {
            let names = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&names).any(|dir| dir.join(path).is_file())
        });
        let program = program.context("e2fsck is not installed; it is in e2fsprogs")?;
        check_with(Path::new(program), &self.path())
    }
}

fn check_with(program: &Path, image: &Path) -> Result<()> {
    let output = Command::new(program)
        .args(["-f", "-n"])
        .arg(image)
        .output()
        .context("cannot start e2fsck")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("e2fsck finds the disk damaged ({}):\n{text}", output.status);
    }
    Ok(())
}
