// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A front end that takes one back end for the other, and tells the driver nothing.

use crate::bed;
use anyhow::Result;
use std::time::Duration;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::DaemonPlace;
use tmem_e2e::Guest;
use tmem_e2e::Host;
use tmem_e2e::Relay;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// For the driver to notice something, on a busy machine.
const NOTICED: Duration = Duration::from_secs(120);

/// A daemon in a place where another one may follow, and a guest that reaches it through a relay.
fn bed(name: &str) -> Result<(DaemonPlace, Daemon, Relay, Guest)> {
    let host = Host::here(&bed::assets()?)?;
    let place = DaemonPlace::new(&host, DaemonOptions::default())?;
    let daemon = place.start()?;
    let relay = Relay::start(&place.socket("vm0"))?;
    let options = tmem_e2e::GuestOptions {
        name: name.into(),
        device: Some(relay.socket()),
        ..tmem_e2e::GuestOptions::default()
    };
    let guest = Guest::boot(&bed::assets()?, options)?;
    Ok((place, daemon, relay, guest))
}

#[test]
fn events_reach_a_driver_whose_rings_begin_at_its_available_index() -> Result<()> {
    let (_, daemon, _relay, guest) = bed("events")?;
    guest.swap_on()?;
    // More than once: buffers are given back.
    for quota in [512 << 20, 768 << 20, 256 << 20] {
        daemon.set_quota("vm0", quota)?;
        until("the driver to hear of its quota", NOTICED, || {
            Ok((guest.counter("quota_bytes")? == quota).then_some(()))
        })?;
    }
    bed::swaps(&guest, 224)?;
    guest.power_off()?;
    daemon.stop()
}

/// Pages that are written by hand.
const COUNT: u32 = 64;

/// Reads or writes the disk past the page cache; whether that works.
fn dd(guest: &Guest, way: &str) -> Result<bool> {
    let line = format!("busybox dd bs=4096 count={COUNT} {way}");
    Ok(guest.try_run(&line)?.0 == 0)
}

/// Has a program keep the disk open, as a swap area would.
fn hold(guest: &Guest) -> Result<String> {
    let line = "sleep 100000 </dev/tmem0 >/dev/null 2>&1 & echo $!";
    Ok(guest.sh(line)?.trim().to_string())
}

/// The disk of pages that are lost is closed, and an empty one comes that works.
fn another_disk(guest: &Guest, holder: &str) -> Result<()> {
    let number = || guest.read("/sys/block/tmem0/diskseq").unwrap_or_default();
    let old = number();
    guest.run(&format!("kill {holder}"))?;
    until("another /dev/tmem0", NOTICED, || {
        let new = number();
        Ok((!new.is_empty() && new != old).then_some(()))
    })?;
    guest.run("mkswap /dev/tmem0")?;
    guest.run("swapon /dev/tmem0")?;
    // The pages that were lost are counted among the errors, so this is all there is to see.
    let mut job = guest.workload(224, 1)?;
    job.filled()?;
    job.order(Order::Verify)?;
    job.end()
}

#[test]
fn a_back_end_that_was_replaced_unseen_is_another_instance() -> Result<()> {
    let (place, daemon, relay, guest) = bed("replaced")?;
    guest.load_module()?;
    guest.disk_appears()?;
    assert!(dd(&guest, "if=/bin/busybox of=/dev/tmem0 oflag=direct")?);
    let holder = hold(&guest)?;
    daemon.kill()?;
    let daemon = place.start()?;
    until("the relay to find the other daemon", NOTICED, || {
        Ok((relay.replays() > 0).then_some(()))
    })?;

    // Its pages are gone, and that is said.
    assert!(!dd(&guest, "if=/dev/tmem0 of=/two iflag=direct")?);
    guest.says("its back end is another one", NOTICED)?;
    guest.says("came back without the pages", NOTICED)?;
    assert!(!dd(&guest, "if=/dev/tmem0 of=/two iflag=direct")?);
    assert!(!guest.console().contains("this is a bug"));

    another_disk(&guest, &holder)?;
    assert_eq!(relay.fatal_reads(), 0);
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn a_driver_does_not_read_configuration_space_while_the_back_end_is_away() -> Result<()> {
    let (place, daemon, relay, guest) = bed("config")?;
    guest.load_module_with("reattach_timeout=5")?;
    guest.disk_appears()?;
    assert!(dd(&guest, "if=/bin/busybox of=/dev/tmem0 oflag=direct")?);
    let holder = hold(&guest)?;
    daemon.kill()?;

    // A device that does not answer is reset, and set up again.
    assert!(!dd(&guest, "if=/dev/tmem0 of=/two iflag=direct")?);
    guest.says("the device has not answered", NOTICED)?;
    guest.says("has not answered a request CreatePool", NOTICED)?;
    assert_eq!(relay.fatal_reads(), 0, "the machine would have ended");

    // It works again with the next daemon.
    let daemon = place.start()?;
    guest.says("came back without the pages", NOTICED)?;
    another_disk(&guest, &holder)?;
    assert_eq!(relay.fatal_reads(), 0);
    guest.power_off()?;
    daemon.stop()
}

/// The request queue that carries writes.
const WRITES: u32 = 1;

#[test]
fn a_read_does_not_wait_for_writes() -> Result<()> {
    let (_, daemon, relay, guest) = bed("reads-first")?;
    guest.load_module()?;
    guest.disk_appears()?;
    assert!(dd(&guest, "if=/bin/busybox of=/dev/tmem0 oflag=direct")?);
    relay.halt(Some(WRITES))?;
    let write = "if=/bin/busybox of=/dev/tmem0 oflag=direct";
    let line = format!("busybox dd bs=4096 count={COUNT} {write} >/dev/null 2>&1 & echo $!");
    let writer = guest.sh(&line)?.trim().to_string();
    let waits = || -> Result<bool> {
        let stat = guest.read(&format!("/proc/{writer}/stat"))?;
        Ok(stat.contains(" D "))
    };
    until("a write to wait for the device", NOTICED, || {
        Ok(waits()?.then_some(()))
    })?;
    let gets = guest.counter("loads")?;
    assert!(dd(&guest, "if=/dev/tmem0 of=/two iflag=direct")?);
    assert_eq!(guest.counter("loads")? - gets, u64::from(COUNT));
    assert!(waits()?, "the write was answered first");
    relay.halt(None)?;
    until("the write to end", NOTICED, || {
        // Nobody may have asked for its status.
        let stat = guest.read(&format!("/proc/{writer}/stat"));
        Ok(stat.map_or(true, |stat| stat.contains(" Z ")).then_some(()))
    })?;
    guest.run(&format!(
        "busybox dd if=/bin/busybox of=/one bs=4096 count={COUNT}"
    ))?;
    guest.run("busybox cmp /one /two")?;
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}
