// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The main job: pages go out and come back as they were.

use crate::bed;
use crate::bed::MIB;
use anyhow::Result;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::protocol::Order;

/// Memory of the guest, and what the program in it needs beyond that, in MiB.
const MEMORY: u64 = 160;
const OVER: u64 = 128;

/// Memory that a small guest has left for its files, in MiB: less than what may be on its way to the device of
/// a large one.
const LEFT: u64 = 24;

/// Takes memory that cannot be swapped out.
const HOLD: &str = "mkdir /held && mount -t ramfs none /held && dd if=/dev/zero of=/held/it bs=1M";

/// Fills memory without a look at what was swapped out, and compares it.
const FILL: &str = "mkdir /filled && mount -t tmpfs -o size=1g none /filled && yes cold | head -c 96m > /filled/it";
const COMPARE: &str = "yes cold | head -c 96m | cmp - /filled/it";

/// Pages that a slow device takes before it is silent, and for how long it is.
const STEP: u64 = 16 * MIB;
const SILENCE: Duration = Duration::from_secs(3);

#[test]
fn swapped_pages_come_back_as_they_were() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("swap", MEMORY, &daemon, "vm0")?;
    guest.swap_on()?;

    // At any time, what is beyond the memory at least is with the daemon.
    let mut job = guest.workload(MEMORY + OVER, 1)?;
    job.filled()?;
    let in_order = job.order(Order::Verify)?;
    assert!(in_order.major_faults > 0);
    job.order(Order::Churn)?;
    job.order(Order::Verify)?;

    bed::nothing_lost(&guest)?;
    assert!(guest.counter("succ_stores")? >= OVER * MIB);
    assert!(guest.counter("loads")? >= OVER * MIB);
    let stats = daemon.stats()?;
    let pages = stats.number("/vms/vm0/persistent_pages")?;
    assert!(pages >= OVER * MIB, "{pages} pages are with the daemon");
    let held = stats.number("/vms/vm0/held_bytes")?;
    assert!(
        held < pages * 4096,
        "{held} bytes are held for {pages} pages"
    );

    // Freed swap slots are flushed: what stays is the swap header, and what the
    // kernel still counts as used.
    job.end()?;
    let used = (guest.meminfo("SwapTotal")? - guest.meminfo("SwapFree")?) / 4;
    assert!(used < 32 * MIB, "{used} pages of swap are still used");
    bed::settles(&daemon, "/vms/vm0/persistent_pages", |pages| {
        pages <= used + 1
    })?;
    guest.run("swapoff /dev/tmem0")?;
    guest.run("rmmod virtio_tmem")?;
    bed::settles(&daemon, "/vms/vm0/persistent_pages", |pages| pages == 0)?;
    bed::settles(&daemon, "/vms/vm0/held_bytes", |bytes| bytes == 0)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn who_swaps_waits_for_a_slow_device() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("slow", MEMORY, &daemon, "vm0")?;
    guest.swap_on()?;
    let held = (guest.meminfo("MemAvailable")? / 1024).saturating_sub(LEFT);
    guest.sh(&format!("{HOLD} count={held}"))?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let slow = scope.spawn(|| answers_now_and_then(&daemon, &over));
        let filled = guest.sh(FILL);
        over.store(true, Relaxed);
        let slow = slow.join();
        slow.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        filled
    })?;
    guest.sh(COMPARE)?;
    bed::nothing_lost(&guest)?;
    assert!(guest.counter("throttled")? > 0, "nobody waited");
    guest.power_off()?;
    daemon.stop()
}

/// Halts the daemon again and again, each time after it has taken some pages.
fn answers_now_and_then(daemon: &Daemon, over: &AtomicBool) -> Result<()> {
    let mut before = 0;
    while !over.load(Relaxed) {
        let pages = daemon.stats()?.number("/vms/vm0/persistent_pages")?;
        if pages >= before + STEP {
            before = pages;
            daemon.halt()?;
            thread::sleep(SILENCE);
            daemon.go_on()?;
        }
    }
    Ok(())
}
