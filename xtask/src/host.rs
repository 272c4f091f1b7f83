// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Programs that the host itself must have.

use crate::exec;
use anyhow::Result;
use anyhow::bail;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Keys that vouch for Debian's archive; apt has the first on Debian.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// Debian packages that are missing on the host.
pub(crate) fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if on_path("mmdebstrap").is_none() {
        missing.push("mmdebstrap");
    }
    if !rustix::process::geteuid().is_root() && on_path("newuidmap").is_none() {
        missing.push("uidmap");
    }
    if on_path("mke2fs").is_none() {
        missing.push("e2fsprogs");
    }
    if !KEYRINGS.iter().any(|keys| Path::new(keys).exists()) {
        missing.push("debian-archive-keyring");
    }
    missing
}

/// Installs `packages`, or says who must.
pub(crate) fn install(packages: &[&str], log: &Path) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !rustix::process::geteuid().is_root() {
        bail!("this machine lacks {list}; install with: sudo apt-get install {list}");
    }
    let mut update = Command::new("apt-get");
    exec::logged("host packages", update.arg("update"), log, |_| None)?;
    let mut install = Command::new("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages);
    exec::logged("host packages", &mut install, log, |line| {
        line.starts_with("Setting up ").then(|| line.to_string())
    })
}

/// The file that `program` is run from.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian leaves these out of an ordinary user's PATH.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}
