// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The disk as swap: twice the memory, over daemons that are killed, and beyond the
//! quota.

use crate::bed;
use crate::bed::MIB;
use crate::blk::guest;
use crate::blk::guest::DISK;
use crate::blk::guest::MEMORY;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::DaemonPlace;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::Host;
use tmem_e2e::Machine;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// The disk's name at the daemon.
pub(crate) const VM: &str = "disk0";

/// Of the program that is swapped out, in MiB.
const LOAD: u64 = 2 * MEMORY;

/// Times that the daemon is killed.
const KILLS: u32 = 3;

/// For the guest to swap with a daemon, on busy emulated CPUs.
const USED: Duration = Duration::from_secs(300);

/// A quota that a program's memory does not fit into, however it is compressed.
const SMALL_QUOTA: u64 = 16 << 20;

/// Of the swap area that is larger than that, in MiB.
const SMALL_SWAP: u64 = 96;

/// What may be held beyond the quota for pages that are overwritten.
const OVERWRITES: u64 = 1 << 20;

/// What the kernel says of swap that does not answer as it should.
const OURS: &[&str] = &["virtio", "swap", "I/O error", "Out of memory", "vda"];

#[test]
#[ignore = "as Debian 13: cargo xtask e2e blk::swap --ignored"]
fn debian_12_swaps_to_it() -> Result<()> {
    swaps("debian12", |_, _| Ok(()))
}

#[test]
fn debian_13_swaps_to_it_and_lives_with_a_quota() -> Result<()> {
    swaps("debian13", beyond_the_quota)
}

/// The guest `stock` swaps to the disk; at its end, `then` is done.
fn swaps(stock: &'static str, then: impl FnOnce(&Guest, &Daemon) -> Result<()>) -> Result<()> {
    let place = DaemonPlace::new(
        &Host::here(&bed::assets()?)?,
        DaemonOptions {
            vms: Vec::new(),
            disks: vec![VM],
            swap_size: "1G",
            kept: true,
            ..DaemonOptions::default()
        },
    )?;
    let daemon = place.start()?;
    let options = GuestOptions {
        name: "blk".into(),
        vhost_disks: vec![daemon.socket(VM)],
        ..GuestOptions::default()
    };
    let guest = guest::boot(Some(stock), options)?;
    ensure!(guest.run("lsmod")?.contains("virtio_blk"));
    // It has a swap header that nobody has written.
    guest.run(&format!("swapon --discard {DISK}"))?;
    let daemon = over_kills(&place, daemon, &guest, LOAD, LOAD - MEMORY)?;

    // Whatever is written over it, it can be swap again.
    guest.run(&format!("swapoff {DISK}"))?;
    guest.run(&format!("mkswap {DISK}"))?;
    guest.run(&format!("swapon --discard {DISK}"))?;
    then(&guest, &daemon)?;
    guest.run(&format!("swapoff {DISK}"))?;
    guest.power_off()?;
    daemon.stop()
}

/// A program of `load` MiB, of which at least `over` are swapped out, is as it was left, while
/// daemons are killed; the guest notices nothing.
pub(crate) fn over_kills<M: Machine>(
    place: &DaemonPlace,
    daemon: Daemon,
    guest: &Guest<M>,
    load: u64,
    over: u64,
) -> Result<Daemon> {
    let mut job = guest.workload(load, 1)?;
    job.filled()?;
    let pages = number(&daemon, "persistent_pages")?;
    ensure!(pages > over * MIB, "the daemon has {pages} pages");
    let said = guest.console().len();
    let over = AtomicBool::new(false);
    let daemon = std::thread::scope(|scope| {
        let (over, job) = (&over, &mut job);
        let load = scope.spawn(move || -> Result<()> {
            job.order(Order::Verify)?;
            while !over.load(Ordering::Relaxed) {
                job.order(Order::Churn)?;
            }
            job.order(Order::Verify).map(|_| ())
        });
        // A load that ends before has failed, and says why.
        let killed = kill(place, daemon, || !load.is_finished());
        over.store(true, Ordering::Relaxed);
        let load = load.join();
        load.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        killed
    })?;
    job.end()?;
    let console = guest.console();
    let said = console.get(said..).context("the console is shorter")?;
    let noticed = |line: &&str| OURS.iter().any(|ours| line.contains(ours));
    let noticed: Vec<_> = said.lines().filter(noticed).collect();
    ensure!(noticed.is_empty(), "{}", noticed.join("\n"));
    Ok(daemon)
}

/// Kills the daemon, each time after it has served the guest, and starts the next one.
fn kill(place: &DaemonPlace, mut daemon: Daemon, goes_on: impl Fn() -> bool) -> Result<Daemon> {
    for _ in 0..KILLS {
        until("the guest to swap", USED, || {
            let read = number(&daemon, "device/requests/read")?;
            let written = number(&daemon, "device/requests/write")?;
            Ok((read > 0 && written > 0 || !goes_on()).then_some(()))
        })?;
        if !goes_on() {
            break;
        }
        daemon.kill()?;
        daemon = place.start()?;
    }
    Ok(daemon)
}

/// A program that the quota is too small for is killed, and nothing else is lost.
fn beyond_the_quota(guest: &Guest, daemon: &Daemon) -> Result<()> {
    // So little that the kernel soon sees that there is no room.
    guest.run(&format!("swapoff {DISK}"))?;
    guest.run(&format!("mkswap {DISK} {}", SMALL_SWAP * 1024))?;
    guest.run(&format!("swapon --discard {DISK}"))?;
    let mut modest = guest.precious_workload(32, 2)?;
    modest.filled()?;
    daemon.set_quota(VM, SMALL_QUOTA)?;
    let mut greedy = guest.workload(MEMORY, 3)?;
    match greedy.outcome()? {
        Err(ended) => ensure!(ended.signal == Some(9), "{ended:?}"),
        Ok(account) => bail!("{MEMORY} MiB and a small quota held {LOAD} MiB: {account:?}"),
    }
    ensure!(number(daemon, "puts_refused_quota")? > 0);
    let held = number(daemon, "held_bytes")?;
    ensure!(held <= SMALL_QUOTA + OVERWRITES, "{held} bytes are held");
    guest.says("Write-error on swap-device", bed::PROMPT)?;
    modest.order(Order::Verify)?;
    daemon.set_quota(VM, 1 << 30)?;
    modest.order(Order::Churn)?;
    modest.order(Order::Verify)?;
    modest.end()?;
    // There is room again.
    let mut large = guest.workload(SMALL_SWAP, 4)?;
    large.filled()?;
    large.order(Order::Verify)?;
    large.end()
}

/// What the daemon counts of the disk.
pub(crate) fn number(daemon: &Daemon, name: &str) -> Result<u64> {
    daemon.stats()?.number(&format!("/vms/{VM}/{name}"))
}
