// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is on the disks: files of a Debian system, a database, and a compiler
//! with something to build. Made once for a run; what each way must read of it
//! is known from here.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use fastrand::Rng;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use tempfile::TempDir;
use tmem_e2e::Assets;
use tmem_work::Outcome;
use tmem_work::database;
use tmem_work::files;

/// The largest file that is taken, in bytes.
const LARGEST: u64 = 16 << 20;

/// Files in a directory.
const IN_DIRECTORY: u64 = 256;

/// From which the choice of files follows.
const CHOICE: u64 = 60;

/// What a file system needs beside its files: a sixteenth, and so many MiB for its journal.
const JOURNAL_MIB: u64 = 24;

/// What the build writes, in MiB.
const BUILD_ROOM_MIB: u64 = 96;

/// The name of the database on its disk.
pub(crate) const DATABASE: &str = "texts.db";

/// The name of the sources on the disk of the build.
pub(crate) const SOURCES: &str = "sources.tar.gz";

/// What of the sources is only unpacked; what is built lies beside it.
pub(crate) const UNPACKED: &str = "linux";

/// How large it all is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Of the files, in MiB.
    pub(crate) files_mib: u64,
    /// Of the database, in MiB.
    pub(crate) database_mib: u64,
}

/// The images, gone when this is dropped.
pub(crate) struct Content {
    dir: TempDir,
    /// All files.
    pub(crate) files: Outcome,
    /// All rows.
    pub(crate) scan: Outcome,
    /// The sources to be unpacked, where they were given.
    pub(crate) sources: Option<Outcome>,
}

impl Content {
    /// Makes all images. Files are taken from below `system`; `build` is a
    /// directory with a compiler's `toolchain` and `sources`.
    pub(crate) fn make(
        assets: &Assets,
        system: &Path,
        build: Option<&Path>,
        sizes: Sizes,
    ) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("tmem-content-")
            .tempdir()
            .context("cannot make a directory for images")?;
        let tree = dir.path().join("files");
        choose(system, &tree, sizes.files_mib << 20)?;
        let files = files::read(&tree, 0)?;
        format(assets, &tree, 0, &dir.path().join("files.raw"))?;

        let tree = dir.path().join("database");
        fs::create_dir(&tree).context("cannot make a directory")?;
        let path = tree.join(DATABASE);
        database::make(&path, sizes.database_mib)?;
        let scan = database::scan(&path)?;
        format(assets, &tree, 0, &dir.path().join("database.raw"))?;

        let mut sources = None;
        if let Some(build) = build {
            let tree = build.join("toolchain");
            pack(&build.join("sources"), &tree.join(SOURCES))?;
            sources = Some(files::read(&build.join("sources").join(UNPACKED), 0)?);
            format(assets, &tree, BUILD_ROOM_MIB, &dir.path().join("build.raw"))?;
        }
        Ok(Self {
            dir,
            files,
            scan,
            sources,
        })
    }

    /// The images: files, database, and build, if there is one.
    pub(crate) fn images(&self) -> Vec<PathBuf> {
        let names = ["files.raw", "database.raw", "build.raw"];
        let count = 2 + usize::from(self.sources.is_some());
        let paths = names.map(|name| self.dir.path().join(name));
        paths.into_iter().take(count).collect()
    }

    /// What random reads of the database must give.
    pub(crate) fn rows(&self, count: u64, seed: u64) -> Result<Outcome> {
        database::read(
            &self.dir.path().join("database").join(DATABASE),
            count,
            seed,
        )
    }
}

/// Copies plain files from below `from` to `to`, at random, until they are
/// `bytes` or more.
fn choose(from: &Path, to: &Path, bytes: u64) -> Result<()> {
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
                Ok(data) if data.is_file() && data.size() <= LARGEST => found.push(path),
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

/// Packs everything below `from` into the archive `to`.
fn pack(from: &Path, to: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--gzip",
        "--sort=name",
        "--owner=0",
        "--group=0",
    ])
    .args(["--mtime=@0", "--file"])
    .arg(to)
    .arg("--directory")
    .arg(from)
    .arg(".");
    succeeds("tar", &mut tar)
}

/// Makes an image with an ext4 file system that holds `tree`, with `room_mib`
/// MiB left free at least.
fn format(assets: &Assets, tree: &Path, room_mib: u64, image: &Path) -> Result<()> {
    let used = (usage(tree)? >> 20) + room_mib;
    let size = used + used / 16 + JOURNAL_MIB;
    let words = assets.storage()?.tools.get("mke2fs");
    let mut words = words.context("there is no mke2fs")?.iter();
    let mut command = Command::new(words.next().context("mke2fs has no words")?);
    command
        .args(words)
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0"])
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

fn succeeds(name: &str, command: &mut Command) -> Result<()> {
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
            choose(&from, &to, 100_000).unwrap();
            files::read(&to, 0).unwrap()
        };
        let one = read("one");
        assert_eq!((one.count, one.bytes), (10, 100_000));
        assert!(one.is_like(&read("two")));
        let too_much = choose(&from, &dir.path().join("three"), 1 << 20);
        assert!(too_much.is_err());
    }
}
