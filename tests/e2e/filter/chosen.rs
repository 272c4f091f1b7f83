// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is attached without being named, and what is said of the rest.

use crate::bed;
use crate::filter;
use crate::filter::control;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Filesystem;
use tmem_e2e::Guest;
use tmem_e2e::Image;

/// Size of a disk in MiB.
const SIZE: u64 = 32;

/// The line of `text` that begins with `done` and names `device`.
fn line<'a>(text: &'a str, done: &str, device: &str) -> Result<&'a str> {
    text.lines()
        .find(|line| line.starts_with(done) && line.split(' ').any(|word| word == device))
        .with_context(|| format!("{device} is not {done}:\n{text}"))
}

/// Reads a file of 4 MiB often enough for its blocks to be put, and read from the host.
fn read_again(guest: &Guest, dir: &str) -> Result<()> {
    guest
        .sh(&format!(
            "busybox head -c 4194304 /dev/urandom >{dir}/file; busybox sync; \
             for i in 1 2 3 4; do \
                 echo 3 >/proc/sys/vm/drop_caches; busybox cat {dir}/file >/dev/null; \
             done"
        ))
        .map(|_| ())
}

#[test]
fn what_is_encrypted_or_has_small_blocks_is_attached_only_by_name() -> Result<()> {
    let assets = bed::assets()?;
    let mut plain = Image::empty(SIZE)?;
    plain.format(&assets, Filesystem::Ext4)?;
    let mut small = Image::empty(SIZE)?;
    small.format_with(&assets, Filesystem::Ext4, &["-b", "1024"])?;
    let images = [plain, small, Image::empty(SIZE)?, Image::empty(SIZE)?];
    let drives = images
        .iter()
        .map(|image| Drive::new(image.path()))
        .collect();
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = filter::guest("chosen", 288, drives)?;
    guest.load_module_with("settle_seconds=0")?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    let [plain, small, below, swap] = [0, 1, 2, 3].map(|number| guest.drive(number));
    let (plain, small, below, swap) = (plain?, small?, below?, swap?);
    let sectors = SIZE << 11;
    let key = "00112233445566778899aabbccddeeff".repeat(2);
    let create = |name: &str, uuid: &str, table: &str| {
        format!("dmsetup create --noudevsync --uuid {uuid}-{name} {name} --table '{table}'")
    };
    let crypt = |disk: &str| format!("0 {sectors} crypt aes-xts-plain64 {key} 0 {disk} 0");
    for line in [
        "modprobe dm_mod",
        "modprobe dm_crypt",
        // A file system above a volume above dm-crypt.
        &create("secret", "CRYPT-PLAIN", &crypt(&below)),
        &create("volume", "LVM", &format!("0 {sectors} linear /dev/dm-0 0")),
        &format!("busybox dd if={plain} of=/dev/dm-1 bs=1M conv=fsync"),
        &create("swap", "CRYPT-PLAIN", &crypt(&swap)),
        "mkswap /dev/dm-2",
        "swapon /dev/dm-2",
        "mkdir /plain /small /secret",
        &format!("busybox mount -t ext4 {plain} /plain"),
        &format!("busybox mount -t ext4 {small} /small"),
        "busybox mount -t ext4 /dev/dm-1 /secret",
    ] {
        guest.sh(line)?;
    }

    let said = guest.run("tmemctl attach --all")?;
    line(&said, "attached", &plain)?;
    ensure!(control::attached(&guest)? == 1, "{said}");
    for (device, reason) in [
        ("/dev/mapper/volume", "encrypted (dm-crypt)"),
        ("/dev/mapper/swap", "encrypted (dm-crypt)"),
        (&*small, "blocks of 1024 bytes"),
    ] {
        let line = line(&said, "skipped", device)?;
        ensure!(line.contains(reason), "{line}");
    }

    // By name they are, and what is to be known of them is said, then and later.
    for (device, reason) in [
        ("/dev/dm-1", "in the clear"),
        ("/dev/dm-2", "in the clear"),
        (&*small, "blocks of 1024 bytes"),
    ] {
        let said = guest.run(&format!("tmemctl attach {device}"))?;
        line(&said, "attached", device)?;
        ensure!(
            said.contains("warning: ") && said.contains(reason),
            "{device}: {said}"
        );
    }
    let status = guest.run("tmemctl status")?;
    let warnings = status.lines().filter(|line| line.starts_with("warning"));
    ensure!(warnings.count() == 3, "{status}");

    // It is true of small blocks, and only of them.
    for dir in ["/plain", "/secret", "/small"] {
        read_again(&guest, dir)?;
    }
    let hits = |device: &str| -> Result<u64> {
        let status = bed::json(&guest, &format!("tmemctl status {device} --json"))?;
        let hits = status.pointer("/filters/0/hits");
        hits.and_then(serde_json::Value::as_u64)
            .with_context(|| format!("no hits in {status}"))
    };
    ensure!(hits(&plain)? >= bed::MIB, "{plain} has no hits");
    ensure!(hits("/dev/dm-1")? >= bed::MIB, "the volume has no hits");
    ensure!(hits(&small)? < bed::MIB / 4, "{small} has hits");

    guest.run("tmemctl detach --all")?;
    guest.sh("swapoff /dev/dm-2; busybox umount /secret; busybox umount /small /plain")?;
    guest.sh("for name in swap volume secret; do dmsetup remove --noudevsync $name; done")?;
    guest.run("rmmod virtio_tmem")?;
    guest.power_off()?;
    daemon.stop()
}
