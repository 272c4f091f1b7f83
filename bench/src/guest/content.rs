// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is on the disks: files of a Debian system, a database, and a compiler
//! with something to build. Made once for a run; what each way must read of it
//! is known from here.

use crate::image;
use crate::image::Layout;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use tmem_e2e::Assets;
use tmem_work::Outcome;
use tmem_work::database;
use tmem_work::files;

/// The largest file that is taken, in bytes.
const LARGEST: u64 = 16 << 20;

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
        image::choose(system, &tree, sizes.files_mib << 20, LARGEST)?;
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
    image::succeeds("tar", &mut tar)
}

/// Makes an image of `tree`, with `room_mib` MiB left free at least.
fn format(assets: &Assets, tree: &Path, room_mib: u64, image: &Path) -> Result<()> {
    let words = assets.storage()?.tools.get("mke2fs");
    let layout = Layout {
        room_mib,
        has_journal: true,
    };
    image::format(words.context("there is no mke2fs")?, tree, layout, image)
}
