// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask bench guest`: what filters on the disks of guests are good for.

use crate::archive;
use crate::assets;
use crate::assets::Guests;
use crate::bench;
use crate::bench::toolchain;
use crate::cache;
use crate::exec;
use crate::initramfs;
use crate::programs::Profile;
use crate::project;
use crate::roots::Root;
use crate::setup;
use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use tmem_e2e::Assets;

/// What is built in the guest: the crate that the store's benchmark is linked
/// to comes with all of LZ4's sources.
const LZ4: &str = "lz4-sys";

/// What is unpacked beside it: the kernel's headers.
const HEADERS: &str = "usr/src/linux-headers-*-common";

/// Empty directories of the root that is built in.
const MOUNT_POINTS: &[&str] = &["dev", "tmp"];

/// Measures it.
pub(super) fn run(quick: bool, reads: bool, json: Option<&Path>) -> Result<()> {
    let made = project::made()?;
    let file = made.join("bench-assets.json");
    let setup = setup::ensure(false)?;
    assets::make_from(&setup, Profile::Release, Guests::Measured)?.write(&file)?;
    let build = gather(&setup.build, &made)?;
    // The cache is not locked while guests run.
    let root = setup.build.clone();
    drop(setup);
    let program = bench::program()?;

    // It mounts file systems, which are gone with it: in a space of its own, where an ordinary
    // user may do so.
    let mut bench = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        bench.arg("--map-root-user");
    }
    bench
        .args(["--mount", "--propagation", "private", "--"])
        .arg(program)
        .args(["--only", "guest", "--system"])
        .arg(root.file("usr"))
        .arg("--build")
        .arg(build)
        .env(Assets::VARIABLE, file);
    if reads {
        bench.arg("--reads");
    }
    if quick {
        bench.arg("--quick");
    }
    if let Some(json) = json {
        bench.arg("--json").arg(json);
    }
    exec::shown(&mut bench)
}

/// Gathers a compiler, as a root, and what it is to build.
fn gather(root: &Root, made: &Path) -> Result<PathBuf> {
    println!("gathering a compiler and what it builds");
    let build = made.join("bench-build");
    if build.exists() {
        cache::remove_tree(&build)?;
    }
    let (to, sources) = (build.join("toolchain"), build.join("sources"));
    for dir in [&to, &sources] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let archive = build.join("toolchain.cpio");
    toolchain::write(root, &archive)?;
    archive::unpack(&archive, &to)?;
    for name in MOUNT_POINTS {
        fs::create_dir_all(to.join(name)).context("cannot make a directory")?;
    }
    let headers = root.file(&initramfs::matching(root, HEADERS)?);
    copy(&headers.join("include/linux"), &sources.join("linux"))?;
    copy(&source_of(LZ4)?.join("liblz4"), &sources.join("lz4"))?;
    Ok(build)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    exec::output(copy.arg("--recursive").arg(from).arg(to)).map(|_| ())
}

/// Where Cargo has the source of the crate `name`.
fn source_of(name: &str) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        manifest_path: PathBuf,
    }
    let text = exec::output(project::cargo().args(["metadata", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("cargo metadata is damaged")?;
    let mut packages = metadata.packages.into_iter();
    packages
        .find(|package| package.name == name)
        .and_then(|package| Some(package.manifest_path.parent()?.to_path_buf()))
        .with_context(|| format!("no crate {name} is used here"))
}
