// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A Debian 13 with systemd as it is installed, with the package for guests without the
//! module: as docs/which.md has it.

use crate::bed;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::until;

/// What people read.
const WHICH: &str = include_str!("../../../docs/which.md");

/// The disk's name at the daemon.
const VM: &str = "installed0";

/// The disk with the package, and the one to swap to.
const PACKAGE: &str = "/dev/disk/by-id/virtio-disk0";
const SWAP: &str = "/dev/disk/by-label/tmem";

/// Of the guest, in MiB. Its system is in it.
const MEMORY: u64 = 640;

/// For systemd, udev and apt on emulated CPUs.
const STARTED: Duration = Duration::from_secs(120);

#[test]
fn debian_13_has_the_rule_before_it_swaps() -> Result<()> {
    let assets = bed::assets()?;
    let package = assets.any_guest.clone().context("no package was made")?;
    let dir = tempfile::tempdir().context("cannot make a directory")?;
    let daemon = bed::daemon(DaemonOptions {
        vms: Vec::new(),
        disks: vec![VM],
        ..DaemonOptions::default()
    })?;
    let guest = Guest::boot(
        &assets,
        GuestOptions {
            name: "installed".into(),
            memory_mib: MEMORY,
            stock: Some("debian13-system"),
            drives: vec![Drive::new(archive(&package, dir.path())?)],
            vhost_disks: vec![daemon.socket(VM)],
            ..GuestOptions::default()
        },
    )?;
    exists(&guest, PACKAGE)?;
    exists(&guest, SWAP)?;
    ensure!(
        rotational(&guest)? == "1",
        "what Linux takes a virtio-blk disk for"
    );
    guest.sh(&format!("tar -xf {PACKAGE} -C /root"))?;
    let [install, fstab, _] = installing()?;
    guest.sh_within(&format!("cd /root; {install}"), STARTED)?;
    // For the disk that is there already.
    ensure!(
        rotational(&guest)? == "0",
        "installing has not changed the disk"
    );

    guest.sh(fstab)?;
    at_boot(&guest)?;
    guest.power_off()?;
    daemon.stop()
}

/// The package in an archive, which the guest has as a disk.
fn archive(package: &Path, dir: &Path) -> Result<PathBuf> {
    let archive = dir.join("package.tar");
    let status = Command::new("tar")
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(package.parent().context("the package is nowhere")?)
        .arg(package.file_name().context("the package has no name")?)
        .status()
        .context("cannot start tar")?;
    ensure!(status.success(), "tar failed");
    Ok(archive)
}

/// What is printed there: how it is installed, what makes the disk swap, and what begins to look for
/// cold memory.
fn installing() -> Result<[&'static str; 3]> {
    let block = WHICH
        .split("```sh\n")
        .find(|block| block.starts_with("apt install "));
    let block = block.and_then(|block| block.split("```").next());
    let block = block.context("the documentation does not say how it is installed")?;
    let lines: Vec<_> = block
        .lines()
        .filter_map(|line| line.split("  #").next())
        .collect();
    lines
        .try_into()
        .ok()
        .context("these are not the three commands")
}

fn exists(guest: &Guest, path: &str) -> Result<()> {
    until(path, STARTED, || {
        Ok(guest.sh(&format!("test -e {path}")).ok().map(drop))
    })
}

/// What the kernel has for the disk to swap to.
fn rotational(guest: &Guest) -> Result<String> {
    let name = format!("$(basename $(readlink -f {SWAP}))");
    let text = guest.sh(&format!("cat /sys/block/{name}/queue/rotational"))?;
    Ok(text.trim().to_string())
}

/// As at a boot, /etc/fstab asks for the disk before its driver has found it.
fn at_boot(guest: &Guest) -> Result<()> {
    guest.run("modprobe -r virtio_blk")?;
    until("the disk to be gone", STARTED, || {
        Ok(guest.sh(&format!("test ! -e {SWAP}")).ok())
    })?;
    guest.run("systemctl daemon-reload")?;
    let unit = guest.sh("systemd-escape --path --suffix swap /dev/disk/by-label/tmem")?;
    guest.sh(&format!("systemctl start --no-block '{}'", unit.trim()))?;
    guest.run("modprobe virtio_blk")?;
    until("the disk to be swapped on", STARTED, || {
        let swaps = guest.read("/proc/swaps")?;
        Ok(swaps.contains("/dev/vd").then_some(()))
    })?;
    // Not rotational, discards, of the whole area and of clusters.
    guest.says("SSDsc", bed::PROMPT)
}
