// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! File systems of real files, as images of disks.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use fastrand::Rng;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// Files in a directory.
const IN_DIRECTORY: u64 = 256;

/// From which the choice of files follows.
const CHOICE: u64 = 60;

/// What a file system needs beside its files and its journal: a sixteenth, and so many MiB.
const ROOM_MIB: u64 = 4;

/// For a journal, in MiB.
const JOURNAL_MIB: u64 = 20;

/// What is to be on an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Room left free at least, in MiB.
    pub(crate) room_mib: u64,
    /// It can be written to as on any machine.
    pub(crate) has_journal: bool,
}

/// Copies plain files of up to `largest` bytes from below `from` to `to`, at random, until they
/// are `bytes` or more.
pub(crate) fn choose(from: &Path, to: &Path, bytes: u64, largest: u64) -> Result<()> {
    let mut found = Vec::new();
    let mut left = vec![from.to_path_buf()];
    while let Some(dir) = left.pop() {
        // What is private is left out.
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            match fs::symlink_metadata(&path) {
                Ok(data) if data.is_dir() => left.push(path),
                Ok(data) if data.is_file() && data.size() <= largest => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    Rng::with_seed(CHOICE).shuffle(&mut found);
    let (mut sum, mut count) = (0, 0);
    for path in found {
        if sum >= bytes {
            return Ok(());
        }
        let dir = to.join(format!("{:03}", count / IN_DIRECTORY));
        fs::create_dir_all(&dir).context("cannot make a directory for files")?;
        if let Ok(copied) = fs::copy(&path, dir.join(format!("{count:06}"))) {
            sum += copied;
            count += 1;
        }
    }
    ensure!(
        sum >= bytes,
        "{} has {} MiB of files only; `cargo xtask setup` makes it anew if it is removed",
        from.display(),
        sum >> 20
    );
    Ok(())
}

/// Makes an image with an ext4 file system that holds `tree`, by the command `mke2fs`.
pub(crate) fn format<W: AsRef<OsStr>>(
    mke2fs: &[W],
    tree: &Path,
    layout: Layout,
    image: &Path,
) -> Result<()> {
    let used = (usage(tree)? >> 20) + layout.room_mib;
    let mut size = used + used / 16 + ROOM_MIB;
    let mut features = "^has_journal";
    if layout.has_journal {
        size += JOURNAL_MIB;
        features = "has_journal";
    }
    let (program, words) = mke2fs.split_first().context("mke2fs has no words")?;
    let mut command = Command::new(program);
    command
        .args(words)
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0"])
        .args(["-O", features])
        .args(["-E", "root_owner=0:0,lazy_itable_init=0", "-d"])
        .arg(tree)
        .arg(image)
        .arg(format!("{size}M"));
    succeeds("mke2fs", &mut command)
}

/// Bytes of a tree's files, each in whole blocks and with an inode.
fn usage(tree: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(tree).context("cannot read a directory")? {
        let entry = entry.context("cannot read a directory")?;
        let data = entry.metadata().context("cannot read a directory")?;
        sum += data.len().next_multiple_of(4096) + 256;
        if data.is_dir() {
            sum += usage(&entry.path())?;
        }
    }
    Ok(sum)
}

/// Runs a command to its end.
pub(crate) fn succeeds(name: &str, command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, text.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tmem_work::files;

    #[test]
    fn enough_is_chosen_and_always_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("a/b")).unwrap();
        for number in 0..40 {
            let name = from.join(format!("a/{number}"));
            fs::write(name, vec![number; 10_000]).unwrap();
        }
        let read = |name: &str| {
            let to = dir.path().join(name);
            choose(&from, &to, 100_000, 10_000).unwrap();
            files::read(&to, 0).unwrap()
        };
        let one = read("one");
        assert_eq!((one.count, one.bytes), (10, 100_000));
        assert!(one.is_like(&read("two")));
        let too_much = choose(&from, &dir.path().join("three"), 1 << 20, 10_000);
        assert!(too_much.is_err());
        let too_large = choose(&from, &dir.path().join("four"), 10_000, 9_999);
        assert!(too_large.is_err());
    }
}
