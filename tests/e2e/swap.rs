// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The main job: pages go out and come back as they were.

use crate::bed;
use crate::bed::MIB;
use anyhow::Result;
use tmem_e2e::DaemonOptions;
use tmem_e2e::protocol::Order;

/// Memory of the guest, and what the program in it needs beyond that, in MiB.
const MEMORY: u64 = 160;
const OVER: u64 = 128;

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
