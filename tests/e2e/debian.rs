// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A Debian system with what `make install` puts in place.

use crate::bed;
use crate::bed::MIB;
use crate::filter::control;
use anyhow::Result;
use std::time::Duration;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::Image;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// For the unit to run once the device is there.
const STARTED: Duration = Duration::from_secs(120);

#[test]
fn swap_is_on_after_boot_without_hands() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = Guest::boot(
        &bed::assets()?,
        GuestOptions {
            name: "debian".into(),
            memory_mib: 640,
            device: Some(daemon.socket("vm0")),
            debian: true,
            ..GuestOptions::default()
        },
    )?;
    let swapped_on = || {
        Ok(guest
            .read("/proc/swaps")?
            .contains("/dev/tmem0")
            .then_some(()))
    };
    until("swap on /dev/tmem0", STARTED, swapped_on)?;

    // And it is of use: this is more than the memory that is free.
    leave_little(&guest)?;
    let mut job = guest.workload(guest.meminfo("MemAvailable")? / 1024 + 64, 1)?;
    job.filled()?;
    job.order(Order::Verify)?;
    assert!(daemon.stats()?.number("/vms/vm0/persistent_pages")? > 32 * MIB);
    job.end()?;

    // The other unit has found nothing to attach: the root is no disk.
    let unit = "tmem-attach.service";
    becomes(&guest, unit, "ActiveState", "active")?;
    guest.run(&format!("systemctl reload {unit}"))?;
    guest.run(&format!("systemctl stop {unit}"))?;
    let status = guest.run("tmemctl status")?;
    assert!(status.contains("Nothing is attached"), "{status}");
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}

/// The disk that is swapped to beside `/dev/tmem0`.
const DISK: &str = "/dev/disk/by-id/virtio-disk0";

/// Waits until a property of a unit is `value`.
fn becomes(guest: &Guest, unit: &str, property: &str, value: &str) -> Result<()> {
    until(
        &format!("{property} of {unit} to be {value}"),
        STARTED,
        || {
            let is = guest.run(&format!("systemctl show -P {property} {unit}"))?;
            Ok((is.trim() == value).then_some(()))
        },
    )
}

/// Memory that programs may have, in MiB.
const LEFT: u64 = 128;

/// Takes the rest as huge pages, which are never swapped out: emulated CPUs would take minutes to fill
/// what the system needs to start.
fn leave_little(guest: &Guest) -> Result<()> {
    let taken = (guest.meminfo("MemAvailable")? / 1024).saturating_sub(LEFT) / 2;
    guest.write("/proc/sys/vm/nr_hugepages", &taken.to_string())
}

/// Needs more than memory and quota hold together, so that a part must be on the disk.
fn overflow(guest: &Guest) -> Result<()> {
    let mib = guest.meminfo("MemAvailable")? / 1024 + 160;
    let mut job = guest.workload(mib, 1)?;
    job.filled()?;
    job.order(Order::Verify)?;
    job.end()
}

#[test]
fn beside_other_swap_the_units_leave_no_refused_page_in_memory() -> Result<()> {
    let image = Image::empty(1024)?;
    let daemon = bed::daemon(DaemonOptions {
        quota: "32M",
        swap_size: "1G",
        ..DaemonOptions::default()
    })?;
    let guest = Guest::boot(
        &bed::assets()?,
        GuestOptions {
            name: "layout".into(),
            memory_mib: 640,
            device: Some(daemon.socket("vm0")),
            debian: true,
            drives: vec![Drive::new(image.path())],
            ..GuestOptions::default()
        },
    )?;
    until("the control device", STARTED, || {
        Ok(guest.sh("test -c /dev/tmem").ok())
    })?;
    // Alone, it is on.
    becomes(&guest, "tmem-swap", "ActiveState", "active")?;
    let swaps = || guest.read("/proc/swaps");
    assert!(swaps()?.contains("/dev/tmem0"));

    // As if the machine had booted with a swap partition that has no priority.
    guest.sh("systemctl stop tmem-swap tmem-attach; rmmod virtio_tmem; modprobe virtio_blk")?;
    until(DISK, STARTED, || {
        Ok(guest.sh(&format!("test -b {DISK}")).ok())
    })?;
    guest.sh(&format!("mkswap {DISK}; swapon {DISK}"))?;
    guest.run("modprobe virtio_tmem")?;
    guest.disk_appears()?;
    becomes(&guest, "tmem-attach", "ActiveState", "active")?;
    becomes(&guest, "tmem-swap", "Result", "exec-condition")?;
    assert!(!swaps()?.contains("/dev/tmem0"), "{}", swaps()?);
    let log = guest.run("journalctl -b -u tmem-swap --no-pager")?;
    assert!(log.contains("has no priority of its own"), "{log}");
    leave_little(&guest)?;
    overflow(&guest)?;
    assert!(control::total(&guest, "puts")? > 16 * MIB);
    assert!(daemon.stats()?.number("/vms/vm0/held_bytes")? <= 32 << 20);

    // With one, /dev/tmem0 comes after it.
    guest.sh(&format!("swapoff {DISK}; swapon -p 10 {DISK}"))?;
    guest.run("systemctl start tmem-swap")?;
    guest.run("systemctl reload tmem-attach")?;
    assert!(swaps()?.contains("/dev/tmem0"), "{}", swaps()?);
    overflow(&guest)?;
    let status = guest.run("tmemctl status")?;
    assert!(!status.contains("warning"), "{status}");

    // Who has it the other way round is told.
    guest.sh("swapoff /dev/tmem0; mkswap /dev/tmem0; swapon -p 100 /dev/tmem0")?;
    let status = guest.run("tmemctl status")?;
    assert!(status.contains("/dev/tmem0 has priority 100"), "{status}");

    assert_eq!(control::total(&guest, "errors")?, 0);
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}
