// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Disks that are not what they were when their filter came: larger, used by
//! others meanwhile, to be taken away; and those that cannot have one.

use crate::bed;
use crate::filter;
use crate::filter::control;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::json;
use std::os::unix::fs::FileExt;
use tmem_e2e::Bus;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::Image;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// A swap disk grows under its filter, or before it gets one.
fn grown_swap(name: &str, filter_before: bool) -> Result<()> {
    let image = Image::empty(16)?;
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = Guest::boot(
        &bed::assets()?,
        GuestOptions {
            name: name.into(),
            memory_mib: 192,
            device: Some(daemon.socket("vm0")),
            drives: vec![Drive::new(image.path())],
            storage: true,
            ..GuestOptions::default()
        },
    )?;
    guest.run("modprobe virtio_blk")?;
    let disk = guest.drive(0)?;
    guest.load_module()?;
    guest.disk_appears()?;
    // Whoever uses it for something else meanwhile keeps the filter there.
    guest.sh(&format!("mkswap {disk}; swapon {disk}"))?;
    control::hold(&guest, &disk)?;
    let attach = || control::attach(&guest, &disk, "preswap");
    if filter_before {
        attach()?;
    }
    guest.run(&format!("swapoff {disk}"))?;
    guest.qmp(
        "block_resize",
        json!({ "node-name": "disk0-node", "size": 512 << 20 }),
    )?;
    let size = disk.replace("/dev/", "/sys/block/") + "/size";
    until("the disk to have grown", bed::PROMPT, || {
        Ok((guest.read(&size)?.trim() == "1048576").then_some(()))
    })?;
    guest.sh(&format!("mkswap {disk}; swapon {disk}"))?;
    if !filter_before {
        attach()?;
    }
    let mut job = guest.workload(192, 1)?;
    job.filled()?;
    ensure!(
        control::total(&guest, "puts")? > 0,
        "the host was given nothing"
    );
    job.order(Order::Verify)?;
    job.end()?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn a_swap_disk_that_grew_before_its_filter_came_keeps_every_page() -> Result<()> {
    grown_swap("grown-before", false)
}

#[test]
fn a_swap_disk_that_grows_under_its_filter_keeps_every_page() -> Result<()> {
    grown_swap("grown-under", true)
}

/// Reads a disk past the guest's page cache; gives a checksum.
fn sum(guest: &Guest, disk: &str) -> Result<String> {
    let line = guest.sh(&format!(
        "echo 3 >/proc/sys/vm/drop_caches; busybox sha256sum {disk}"
    ))?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
}

#[test]
fn what_others_write_to_a_disk_that_nobody_uses_is_read() -> Result<()> {
    let image = Image::empty(8)?;
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = filter::guest("elsewhere", 288, vec![Drive::new(image.path())])?;
    guest.load_module_with("precache_eager=1")?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(image.path())
        .context("cannot open the image")?;
    for round in 1..=3_u8 {
        // In use, so that the filter stays.
        control::hold(&guest, "/dev/vda")?;
        control::attach(&guest, "/dev/vda", "precache")?;
        let before = sum(&guest, "/dev/vda")?;
        ensure!(sum(&guest, "/dev/vda")? == before, "the same bytes twice");
        ensure!(
            control::total(&guest, "hits")? > 0,
            "nothing was read from the host"
        );
        control::let_go(&guest)?;
        // Another machine has it now, before anybody here has noticed.
        file.write_all_at(&[round; 4096], u64::from(round) << 20)?;
        let after = sum(&guest, "/dev/vda")?;
        ensure!(
            after != before,
            "round {round}: bytes that are not on the disk any more"
        );
        ensure!(
            sum(&guest, "/dev/vda")? == after,
            "other bytes the second time"
        );
        until("the filter to go", bed::PROMPT, || {
            Ok((control::attached(&guest)? == 0).then_some(()))
        })?;
    }
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn a_filter_lets_go_of_a_disk_that_nobody_uses() -> Result<()> {
    let image = Image::empty(16)?;
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = filter::guest("let-go", 288, vec![Drive::new(image.path())])?;
    guest.load_module_with("precache_eager=1")?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    for line in [
        "modprobe dm_mod",
        "modprobe loop",
        "dmsetup create --noudevsync top --table '0 16384 linear /dev/vda 0'",
        "busybox losetup /dev/loop0 /dev/dm-0",
    ] {
        guest.sh(line)?;
    }
    control::hold(&guest, "/dev/loop0")?;
    for disk in ["/dev/loop0", "/dev/dm-0", "/dev/vda"] {
        control::attach(&guest, disk, "precache")?;
    }
    sum(&guest, "/dev/loop0")?;
    control::let_go(&guest)?;
    guest.sh("busybox losetup -d /dev/loop0")?;
    until("device mapper's disk to be removed", bed::PROMPT, || {
        let removed = guest.try_run("dmsetup remove --noudevsync top")?.0 == 0;
        Ok(removed.then_some(()))
    })?;
    until("no filter to be left", bed::PROMPT, || {
        Ok((control::attached(&guest)? == 0).then_some(()))
    })?;
    guest.run("rmmod virtio_tmem")?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn disks_that_can_change_unseen_are_refused() -> Result<()> {
    let (disc, paths) = (Image::empty(8)?, Image::empty(8)?);
    let drives = vec![
        Drive {
            bus: Bus::Cd,
            read_only: true,
            ..Drive::new(disc.path())
        },
        Drive {
            bus: Bus::NvmePaths,
            ..Drive::new(paths.path())
        },
    ];
    let guest = filter::guest("refused", 288, drives)?;
    guest.load_module()?;
    guest.run("modprobe sr_mod")?;
    guest.run("modprobe zram")?;
    guest.write("/sys/block/zram0/disksize", "16M")?;
    for (disk, reason) in [
        ("/dev/sr0", "its medium can be exchanged"),
        ("/dev/nvme0n1", "it stands for several paths"),
        ("/dev/zram0", "it keeps pages in memory itself"),
    ] {
        until(disk, bed::PROMPT, || {
            Ok((guest.try_run(&format!("busybox test -b {disk}"))?.0 == 0).then_some(()))
        })?;
        for kind in ["precache", "preswap"] {
            let (code, _) = guest.try_run(&format!("tmemctl attach {disk} --kind {kind}"))?;
            ensure!(code != 0, "{disk} has a filter");
        }
        guest.says(reason, bed::PROMPT)?;
    }
    // What the driver of NVMe does with a disk that it does not know any more.
    guest.read("/sys/block/nvme0n1/wwid")?;
    guest.run("rmmod virtio_tmem")?;
    guest.power_off()
}
