// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The package of Rust metadata that Debian's kernel headers lack.

use crate::cache::Cache;
use crate::exec;
use crate::project;
use crate::roots::Root;
use crate::sources::hash;
use crate::versions::Versions;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Makes the package of Rust metadata.
const MAKE_RUST_HEADERS: &str = "guest/scripts/make-rust-headers";

/// Where the build root notes which metadata package it has.
const INSTALLED: &str = "var/lib/tmem-rust-headers";

/// The cache's name of the package of Rust metadata.
pub(crate) fn rust_headers_name(versions: &Versions) -> Result<String> {
    let id = rust_headers_id(versions)?;
    Ok(format!("rust-headers-{}-{id}", versions.kernel))
}

/// Stands for the script that makes the metadata, and for what it makes it of.
fn rust_headers_id(versions: &Versions) -> Result<String> {
    hash(
        &[
            versions.kernel.as_bytes(),
            versions.kernel_package.as_bytes(),
        ],
        &[project::root().join(MAKE_RUST_HEADERS)],
    )
}

/// Makes linux-headers-rust and installs it in the build root; gives back the
/// hash that stands for it.
pub(crate) fn rust_headers(cache: &Cache, build: &Root, versions: &Versions) -> Result<String> {
    let script = project::root().join(MAKE_RUST_HEADERS);
    let id = rust_headers_id(versions)?;
    let name = rust_headers_name(versions)?;
    let package = cache.entry(&name, |dir| {
        println!(
            "making linux-headers-rust-{} (once; 1 to 3 minutes, 40 MB)",
            versions.kernel
        );
        fs::copy(&script, dir.join("make-rust-headers"))
            .with_context(|| format!("cannot copy {}", script.display()))?;
        // Its work is below /mnt, too: an interrupted run leaves nothing in the
        // build root.
        let run = format!(
            "mkdir /mnt/work; TMPDIR=/mnt/work /mnt/make-rust-headers --kernel {} --output /mnt; \
             rmdir /mnt/work",
            versions.kernel
        );
        exec::logged(
            "linux-headers-rust",
            &mut build.script(dir, &run),
            &cache.log(&name),
            |line| {
                line.starts_with(['[', ' '])
                    .then(|| line.trim().to_string())
            },
        )
    })?;
    let installed = build.file(INSTALLED);
    if fs::read_to_string(&installed).ok().as_deref() != Some(&id) {
        let install =
            format!("dpkg --install /mnt/linux-headers-rust-*.deb; printf {id} >/{INSTALLED}");
        exec::logged(
            "linux-headers-rust",
            &mut build.script(&package, &install),
            &cache.log("install-rust-headers"),
            |_| None,
        )?;
    }
    Ok(id)
}

/// The package in the directory of metadata `dir`.
pub(crate) fn package(dir: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("{} has no package", dir.display()))
}
