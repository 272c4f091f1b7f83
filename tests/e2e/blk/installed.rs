// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A Debian 13 with systemd as it is installed, with the package for guests without the
//! module: as docs/which.md has it.

use crate::bed;
use crate::bed::MIB;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tmem_e2e::Daemon;
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

/// Memory that a program may have, and how much of it is in swap at least, in MiB: many clusters
/// of slots, which are wholly free when it has ended.
const LEFT: u64 = 64;
const OVER: u64 = 96;

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
    let [install, fstab, cold] = installing()?;
    guest.sh_within(&format!("cd /root; {install}"), STARTED)?;
    // For the disk that is there already.
    ensure!(
        rotational(&guest)? == "0",
        "installing has not changed the disk"
    );

    guest.sh(fstab)?;
    at_boot(&guest)?;
    dead_pages_go(&guest, &daemon)?;
    guest.sh_within(cold, STARTED)?;
    let status = guest.sh("tmem-cold status")?;
    ensure!(status.starts_with("on\n"), "{status}");
    purge(&guest)?;
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

/// A program that was swapped out ends: Linux discards what it had in swap.
fn dead_pages_go(guest: &Guest, daemon: &Daemon) -> Result<()> {
    // Of the agent's group, in which the program begins: else the system, which is in memory, is
    // swapped out first, and stays there.
    let limit = |bytes: &str| {
        let group = "/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)";
        guest.sh(&format!("echo {bytes} >{group}/memory.max"))
    };
    let pages = format!("/vms/{VM}/persistent_pages");
    limit(&format!("{LEFT}M"))?;
    let mut job = guest.workload(LEFT + OVER, 1)?;
    job.filled()?;
    let stored = daemon.stats()?.number(&pages)?;
    ensure!(stored >= OVER * MIB, "{stored} pages are stored");
    job.end()?;
    let left = bed::settles(daemon, &pages, |left| left < stored / 2)?;
    println!("{stored} pages were stored, {left} are left");
    limit("max").map(drop)
}

/// Nothing of the package stays, and nothing that it has begun.
fn purge(guest: &Guest) -> Result<()> {
    let kdamonds = "/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds";
    ensure!(guest.read(kdamonds)?.trim() == "1", "DAMON does not run");
    let purge = "DEBIAN_FRONTEND=noninteractive apt-get purge -y tmem-any-guest";
    guest.sh_within(purge, STARTED)?;
    ensure!(guest.read(kdamonds)?.trim() == "0", "DAMON still runs");
    let left = guest.sh("find /etc /usr -name '*tmem-cold*' -o -name '*tmem-disk*'")?;
    ensure!(left.trim().is_empty(), "it leaves {left}");
    Ok(())
}
