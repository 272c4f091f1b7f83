// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that wants more than it is granted.

use crate::bed;
use crate::filter::control;
use anyhow::Result;
use anyhow::bail;
use std::time::Duration;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::Image;
use tmem_e2e::protocol::Order;

#[test]
fn at_the_quota_writes_are_refused_and_nothing_is_lost() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions {
        quota: "32M",
        swap_size: "1G",
        ..DaemonOptions::default()
    })?;
    let guest = bed::guest("quota", 160, &daemon, "vm0")?;
    guest.swap_on()?;

    // This one fits into memory, as long as it is alone.
    let mut modest = guest.precious_workload(64, 1)?;
    modest.filled()?;

    // This one does not, whatever the ratio of compression.
    let mut greedy = guest.workload(256, 2)?;
    match greedy.outcome()? {
        Err(ended) => assert_eq!(ended.signal, Some(9), "{ended:?}"),
        Ok(account) => bail!("160 MiB and a quota of 32 MiB held 320 MiB: {account:?}"),
    }

    assert!(guest.counter("failed_stores")? > 0);
    let stats = daemon.stats()?;
    assert!(stats.number("/vms/vm0/puts_refused_quota")? > 0);
    assert!(stats.number("/vms/vm0/held_bytes")? <= 32 << 20);
    guest.says("the device refuses pages", Duration::from_secs(10))?;

    // Every page of the survivor is right, and there is room again.
    modest.order(Order::Verify)?;
    modest.order(Order::Churn)?;
    modest.order(Order::Verify)?;
    modest.end()?;
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn beyond_its_quota_a_guest_swaps_to_its_disk_and_lives() -> Result<()> {
    let image = Image::empty(1024)?;
    let daemon = bed::daemon(DaemonOptions {
        quota: "32M",
        swap_size: "1G",
        ..DaemonOptions::default()
    })?;
    let guest = Guest::boot(
        &bed::assets()?,
        GuestOptions {
            name: "overflow".into(),
            memory_mib: 160,
            device: Some(daemon.socket("vm0")),
            drives: vec![Drive::new(image.path())],
            ..GuestOptions::default()
        },
    )?;
    guest.run("modprobe virtio_blk")?;
    let disk = guest.drive(0)?;
    guest.run(&format!("mkswap {disk}"))?;
    guest.run(&format!("swapon -p 200 {disk}"))?;
    guest.load_module()?;
    guest.disk_appears()?;
    guest.run("mkswap /dev/tmem0")?;
    guest.run("swapon -p 100 /dev/tmem0")?;
    control::attach(&guest, &disk, "preswap")?;

    // More than memory and quota hold together.
    let mut job = guest.workload(256, 1)?;
    job.filled()?;
    job.order(Order::Verify)?;
    job.order(Order::Churn)?;
    job.order(Order::Verify)?;

    // The host has its share, the disk has the rest, and the host was not asked for each page.
    let stats = daemon.stats()?;
    assert!(stats.number("/vms/vm0/held_bytes")? <= 32 << 20);
    assert!(stats.number("/vms/vm0/persistent_pages")? > 16 * bed::MIB);
    let refused = stats.number("/vms/vm0/puts_refused_quota")?;
    let early = guest.counter("refused_early")?;
    println!("{refused} pages were refused by the host, {early} before it was asked");
    // A bio every now and then, not every one. A busy guest comes to a twentieth.
    assert!(refused < early / 4, "the host is asked too often");
    job.end()?;
    guest.run("swapoff /dev/tmem0")?;
    guest.run(&format!("swapoff {disk}"))?;
    assert_eq!(control::total(&guest, "errors")?, 0);
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn a_write_of_which_the_first_part_is_refused_fails() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions {
        quota: "4M",
        swap_size: "256M",
        ..DaemonOptions::default()
    })?;
    let guest = bed::guest("split-error", 160, &daemon, "vm0")?;
    guest.load_module()?;
    guest.disk_appears()?;
    // Up to the quota; then there is room again for what is small, and only for that.
    guest.sh(
        "busybox dd if=/dev/urandom of=/dev/tmem0 bs=128k count=64 oflag=direct 2>/dev/null || true; \
         busybox dd if=/dev/zero of=/dev/tmem0 bs=128k count=2 oflag=direct 2>/dev/null",
    )?;
    // 1 MiB is two requests: pages that do not compress, and zeros.
    guest.sh("busybox head -c 512k /dev/urandom >/want; busybox head -c 512k /dev/zero >>/want")?;
    for at in 60..64 {
        guest.sh(&format!(
            "if busybox dd if=/want of=/dev/tmem0 bs=1M count=1 seek={at} oflag=direct; then \
                 busybox dd if=/dev/tmem0 of=/got bs=1M count=1 skip={at} iflag=direct; \
                 busybox cmp /want /got; \
             fi"
        ))?;
    }
    assert!(daemon.stats()?.number("/vms/vm0/puts_refused_quota")? > 0);
    assert!(guest.counter("failed_stores")? > 0);
    guest.power_off()?;
    daemon.stop()
}
