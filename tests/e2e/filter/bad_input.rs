// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What cannot be filtered is refused, what is in use stays, and a disk may go
//! at any time.

use crate::bed;
use crate::filter;
use crate::filter::control;
use crate::filter::places::Disk;
use crate::filter::places::Place;
use crate::filter::places::Use;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::time::Duration;
use tmem_e2e::Bus;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Filesystem;
use tmem_e2e::Guest;
use tmem_e2e::Image;
use tmem_e2e::until;

/// For the module to notice that a disk is gone.
const NOTICED: Duration = Duration::from_secs(60);

/// RAM of a guest in MiB.
const MEMORY: u64 = 288;

/// A guest with these disks, and the module.
fn guest(name: &str, drives: Vec<Drive>) -> Result<(Guest, Daemon)> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = filter::guest(name, MEMORY, drives)?;
    guest.load_module_with("precache_eager=1")?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    Ok((guest, daemon))
}

/// Fails unless `line` fails, and says why in one sentence.
fn refused(guest: &Guest, line: &str) -> Result<()> {
    let (code, output) = guest.try_run(line)?;
    println!("{line}: {}", output.trim());
    ensure!(code != 0, "{line} succeeds: {output}");
    ensure!(!output.trim().is_empty(), "{line} fails in silence");
    Ok(())
}

#[test]
fn what_cannot_be_filtered_is_refused() -> Result<()> {
    let (image, other) = (Image::partitioned(32, 16)?, Image::empty(8)?);
    let read_only = Drive {
        read_only: true,
        ..Drive::new(other.path())
    };
    let drives = vec![Drive::new(image.path()), read_only];
    let (guest, daemon) = guest("bad-input", drives)?;

    for device in ["/dev/null", "/dev/nothing", "/init", "/mnt", "/dev/tmem"] {
        refused(&guest, &format!("tmemctl attach {device} --kind precache"))?;
        refused(&guest, &format!("tmemctl detach {device}"))?;
    }
    // Its own disk: pages would go round.
    refused(&guest, "tmemctl attach /dev/tmem0 --kind precache")?;
    refused(&guest, "tmemctl attach /dev/tmem0 --kind preswap")?;
    refused(&guest, "tmemctl attach /dev/vda1 --kind nonsense")?;

    // Zones must be written in order, past any cache.
    guest.run("modprobe null_blk nr_devices=1 zoned=1 zone_size=4 gb=1 memory_backed=1")?;
    refused(&guest, "tmemctl attach /dev/nullb0 --kind precache")?;

    // What would have to be known of their pages takes 32 MiB and more: of a petabyte of blocks, and
    // of a terabyte of swapped out pages.
    guest.run("modprobe dm_mod")?;
    for (name, sectors) in [("huge", 1_u64 << 41), ("large", 1 << 31)] {
        guest.sh(&format!(
            "dmsetup create --noudevsync {name} --table '0 {sectors} error'"
        ))?;
    }
    for (disk, kind) in [
        ("dm-0", "precache"),
        ("dm-0", "victim"),
        ("dm-1", "preswap"),
    ] {
        let line = format!("tmemctl attach /dev/{disk} --kind {kind}");
        refused(&guest, &line)?;
        ensure!(guest.try_run(&line)?.1.contains("too large"), "{line}");
    }
    guest.says("is too large for a filter", bed::PROMPT)?;
    guest.sh("dmsetup remove --noudevsync large; dmsetup remove --noudevsync huge")?;

    refused(&guest, "tmemctl detach /dev/vda1")?;
    control::attach(&guest, "/dev/vda1", "precache")?;
    refused(&guest, "tmemctl attach /dev/vda1 --kind precache")?;
    refused(&guest, "tmemctl attach /dev/vda1 --kind preswap")?;
    ensure!(control::attached(&guest)? == 1, "there is one filter");
    refused(&guest, "rmmod virtio_tmem")?;
    control::detach(&guest, "/dev/vda1")?;
    refused(&guest, "tmemctl detach /dev/vda1")?;
    ensure!(control::attached(&guest)? == 0, "there is no filter");

    // A disk that cannot be written may have one, or not; it reads the same.
    let sum = guest.run("busybox sha256sum /dev/vdb")?;
    control::hold(&guest, "/dev/vdb")?;
    let (code, _) = guest.try_run("tmemctl attach /dev/vdb --kind precache")?;
    for _ in 0..3 {
        guest.write("/proc/sys/vm/drop_caches", "3")?;
        ensure!(guest.run("busybox sha256sum /dev/vdb")? == sum);
    }
    if code == 0 {
        control::detach(&guest, "/dev/vdb")?;
    }

    // Noise on the module's own device is an error, and no more.
    refused(
        &guest,
        "busybox dd if=/dev/urandom of=/dev/tmem bs=64 count=1",
    )?;
    refused(&guest, "busybox cat /dev/tmem")?;
    guest.run("rmmod virtio_tmem")?;
    refused(&guest, "tmemctl status")?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn a_disk_and_its_partition_have_one_filter_only() -> Result<()> {
    let disk = Disk::new(Use::Mounted(Filesystem::Ext4), Bus::Virtio, true)?;
    let (guest, daemon) = guest("overlap", vec![disk.drive()])?;
    let device = disk.image.device(&guest.drive(0)?);
    let mut place = Place::start(&guest, disk, device, filter::seed(), 36000)?;
    control::attach(&guest, "/dev/vda1", "precache")?;
    // One of them would not see the other's writes.
    refused(&guest, "tmemctl attach /dev/vda --kind precache")?;
    place.load.check()?;
    control::detach(&guest, "/dev/vda1")?;
    // The whole disk's filter sees what goes to the partition.
    control::attach(&guest, "/dev/vda", "precache")?;
    refused(&guest, "tmemctl attach /dev/vda1 --kind precache")?;
    place.load.check()?;
    ensure!(
        control::total(&guest, "invalidates")? > 0,
        "no write was seen"
    );
    control::detach(&guest, "/dev/vda")?;
    place.load.ends()?;
    let ended = place.end(&guest)?;
    guest.run("rmmod virtio_tmem")?;
    guest.power_off()?;
    daemon.stop()?;
    ended.check()
}

#[test]
fn a_disk_that_is_pulled_out_takes_its_filter_along() -> Result<()> {
    for bus in [Bus::Virtio, Bus::Nvme] {
        let disk = Disk::new(Use::Raw, bus, false)?;
        let (guest, daemon) = guest("pulled", vec![disk.drive()])?;
        let device = disk.image.device(&guest.drive(0)?);
        let mut place = Place::start(&guest, disk, device, filter::seed(), 36000)?;
        control::attach(&guest, &place.device, "precache")?;
        place.load.check()?;
        guest.unplug_drive(0)?;
        // Its reads and writes fail; none of them comes back wrong.
        let verdict = place.load.outcome()?;
        let verdict = verdict.err().context("the load went on without a disk")?;
        println!("{verdict}");
        ensure!(!verdict.contains("WRONG BYTES"), "{verdict}");
        until("the filter to go", NOTICED, || {
            Ok((control::attached(&guest)? == 0).then_some(()))
        })?;
        guest.run("rmmod virtio_tmem")?;
        guest.power_off()?;
        daemon.stop()?;
    }
    Ok(())
}
