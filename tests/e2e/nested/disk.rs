// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The root on a virtio disk, with the kernel as Debian packs it; and a daemon's disk beside it.

use crate::bed;
use crate::nested;
use crate::nested::swap_disk;
use anyhow::Context;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use tmem_e2e::Disk;
use tmem_e2e::Guest;
use tmem_e2e::Host;
use tmem_e2e::HostOptions;
use tmem_e2e::VmOptions;
use tmem_e2e::Vmm;

/// 11 MB in which no two sectors are equal.
const NUMBERS: &str = "busybox seq 1000000 2500000";

/// A disk that is only read.
const READ_ONLY: &str = "/tmp/tmem-e2e-read-only";

#[test]
fn what_a_guest_writes_to_its_disk_is_there_at_the_next_boot() -> Result<()> {
    let disk = Disk::new(&bed::assets()?)?;
    let options = HostOptions {
        disk: Some(disk.path()),
        ..nested::machine("disk")
    };
    nested::on_host(&options, |host| {
        let path = host.files().disk.as_deref().context("there is no disk")?;
        content_survives(host, path)
    })?;
    disk.check()
}

fn content_survives(host: &Arc<Host>, path: &Path) -> Result<()> {
    // Of whole sectors.
    let from = host.files().initramfs.display();
    host.run(&format!(
        "busybox dd if={from} of={READ_ONLY} bs=512 count=20000"
    ))?;
    let guest = launch(host, "writer", path, true, &[])?;
    let sum = guest.sh(&format!(
        "{NUMBERS} | busybox tee /numbers | busybox sha256sum"
    ))?;
    guest.run("busybox sync")?;
    assert_eq!(read_back(&guest)?, sum);
    guest.sh("busybox cp /numbers /gone; busybox sync; busybox rm /gone; busybox fstrim /")?;
    assert_eq!(read_back(&guest)?, sum);
    guest.power_off()?;

    let place = swap_disk::place(host)?;
    let socket = format!("socket={}", swap_disk::socket(&place).display());
    let swap = ["--tmem-swap".to_owned(), socket];
    let guest = launch(host, "reader", path, false, &swap)?;
    assert_eq!(read_back(&guest)?, sum);
    // A disk that is only read is what the file is, and stays so.
    let theirs = host.run(&format!("busybox sha256sum {READ_ONLY}"))?;
    let ours = guest.run("busybox sha256sum /dev/vdb")?;
    assert_eq!(ours.split(' ').next(), theirs.split(' ').next());
    assert_ne!(
        guest
            .try_run("busybox dd if=/dev/zero of=/dev/vdb count=1")?
            .0,
        0
    );
    // After the other two.
    swap_disk::serves(&guest, "vdc", &place)?;
    guest.power_off()
}

/// The checksum of what is on the disk, not in memory.
fn read_back(guest: &Guest<Vmm>) -> Result<String> {
    guest.write("/proc/sys/vm/drop_caches", "3")?;
    guest.sh("busybox sha256sum </numbers")
}

fn launch(
    host: &Arc<Host>,
    name: &str,
    disk: &Path,
    packed: bool,
    more: &[String],
) -> Result<Guest<Vmm>> {
    let guest = nested::guest(
        host,
        VmOptions {
            name: name.into(),
            cpus: 2,
            packed,
            cmdline: "root=/dev/vda rw".into(),
            disks: vec![
                disk.display().to_string(),
                format!("path={READ_ONLY},readonly=on"),
            ],
            more: more.to_vec(),
            ..VmOptions::default()
        },
    )?;
    let mounts = guest.read("/proc/mounts")?;
    assert!(mounts.contains("/dev/vda / ext4 rw"), "{mounts}");
    Ok(guest)
}
