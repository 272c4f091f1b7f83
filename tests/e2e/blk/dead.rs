// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Dead pages: those that the store has and the guest has no use for any more. Linux
//! discards clusters of 2 MiB of which no page is used. Up to 6.12 it does so only on disks
//! that it does not take for rotational, and it takes each virtio-blk disk for one.
//!
//! `cargo xtask bench dead` runs all of it and shows the figures. In CI, [`crate::blk::installed`] sees that dead pages go.

use crate::bed;
use crate::bed::MIB;
use crate::blk::guest;
use crate::blk::guest::DISK;
use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// The disk's name at the daemon.
const VM: &str = "dead0";

/// Of the program that is swapped out, in MiB.
const LOAD: u64 = 208;

#[test]
#[ignore = "takes minutes, for its figures: cargo xtask bench dead"]
fn debian_12_discards_once_the_disk_is_not_rotational() -> Result<()> {
    discards(Some("debian12"), false)
}

#[test]
#[ignore = "takes minutes, for its figures: cargo xtask bench dead"]
fn debian_13_discards_once_the_disk_is_not_rotational() -> Result<()> {
    discards(Some("debian13"), false)
}

#[test]
#[ignore = "takes minutes, for its figures: cargo xtask bench dead"]
fn later_kernels_discard_on_any_disk() -> Result<()> {
    discards(None, true)
}

/// The other side of the comparison.
#[test]
#[ignore = "takes minutes, for its figures: cargo xtask bench dead"]
fn our_driver_says_it_of_each_page() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions {
        vms: vec![VM],
        ..DaemonOptions::default()
    })?;
    let guest = bed::guest("dead-native", guest::MEMORY, &daemon, VM)?;
    guest.swap_on()?;
    let left = after_a_program(&guest, &daemon, "native")?;
    ensure!(left.dead() < MIB, "{left:?}");
    guest.power_off()?;
    daemon.stop()
}

/// `on_any`: also if Linux takes the disk for rotational.
fn discards(stock: Option<&'static str>, on_any: bool) -> Result<()> {
    let daemon = bed::daemon(DaemonOptions {
        vms: Vec::new(),
        disks: vec![VM],
        ..DaemonOptions::default()
    })?;
    let options = GuestOptions {
        name: "dead".into(),
        vhost_disks: vec![daemon.socket(VM)],
        ..GuestOptions::default()
    };
    let guest = guest::boot(stock, options)?;
    let is_rotational = guest::is_rotational(&guest)?;
    ensure!(is_rotational, "what Linux takes a virtio-blk disk for");
    guest.run(&format!("swapon --discard {DISK}"))?;
    let name = stock.unwrap_or("7.3");
    let before = guest::discarded(&guest)?;
    let as_found = after_a_program(&guest, &daemon, &format!("{name}, rotational"))?;
    let said = guest::discarded(&guest)? > before;
    ensure!(said == on_any, "as it is found: {as_found:?}");

    guest.run(&format!("swapoff {DISK}"))?;
    guest::set_rotational(&guest, false)?;
    guest.run(&format!("swapon --discard {DISK}"))?;
    let told = after_a_program(&guest, &daemon, &format!("{name}, not rotational"))?;
    ensure!(told.dead() < told.stored_before / 2, "{told:?}");
    if !on_any {
        ensure!(told.dead() < as_found.dead() / 2, "{as_found:?}, {told:?}");
    }
    guest.power_off()?;
    daemon.stop()
}

/// Pages, after a program has used its memory here and there and has ended.
#[derive(Debug)]
struct Left {
    /// That the store had before it ended.
    stored_before: u64,
    /// That it has.
    stored: u64,
    /// That are in swap.
    used: u64,
}

impl Left {
    fn dead(&self) -> u64 {
        self.stored.saturating_sub(self.used)
    }
}

fn after_a_program(guest: &Guest, daemon: &Daemon, what: &str) -> Result<Left> {
    let stored = || {
        daemon
            .stats()?
            .number(&format!("/vms/{VM}/persistent_pages"))
    };
    let mut job = guest.workload(LOAD, 1)?;
    job.filled()?;
    job.order(Order::Churn)?;
    let (stored_before, used_before) = (stored()?, guest::used(guest)?);
    job.end()?;
    // What is free is said a moment later, by a kernel's worker or by our driver.
    let mut last = u64::MAX;
    let (stored, used) = until("the store to have what it keeps", bed::PROMPT * 2, || {
        let (now, used) = (stored()?, guest::used(guest)?);
        let settled = now == last && used < 32 * MIB;
        last = now;
        std::thread::sleep(bed::PROMPT / 15);
        Ok(settled.then_some((now, used)))
    })?;
    let left = Left {
        stored_before,
        stored,
        used,
    };
    println!(
        "{what}: {stored_before} pages stored and {used_before} in swap while it runs; after it, \
         {stored} and {used}: {} dead",
        left.dead()
    );
    Ok(left)
}
