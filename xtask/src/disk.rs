// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Disks with a file system, made without mounting it.

use crate::archive;
use crate::cache;
use crate::exec;
use crate::host;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where file systems in memory are mounted, and nothing is.
const MOUNT_POINTS: &[&str] = &["dev", "proc", "sys", "run", "tmp"];

/// Makes a disk of `size` (as mke2fs takes it) with an ext4 file system that
/// holds what the archive `content` does.
pub(crate) fn make(content: &Path, size: &str, disk: &Path) -> Result<()> {
    let tree = disk.with_extension("work");
    if tree.exists() {
        cache::remove_tree(&tree)?;
    }
    for name in MOUNT_POINTS {
        fs::create_dir_all(tree.join(name)).context("cannot make the disk's tree")?;
    }
    archive::unpack(content, &tree)?;
    let unfinished = disk.with_extension("tmp");
    let program = host::on_path("mke2fs").context("mke2fs is not installed")?;
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new(program)
    } else {
        // So that the files belong to the guest's root.
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--"]).arg(program);
        command
    };
    command
        .args(["-q", "-F", "-t", "ext4", "-b", "4096"])
        .args(["-L", "tmem-root", "-m", "0"])
        .args(["-E", "root_owner=0:0,lazy_itable_init=0", "-d"])
        .arg(&tree)
        .arg(&unfinished)
        .arg(size);
    // A file from before would keep its size.
    let _ = fs::remove_file(&unfinished);
    exec::output(&mut command)?;
    cache::remove_tree(&tree)?;
    fs::rename(&unfinished, disk).with_context(|| format!("cannot write {}", disk.display()))
}
