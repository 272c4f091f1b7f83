// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A Debian system with what `make install` puts in place.

use crate::bed;
use crate::bed::MIB;
use anyhow::Result;
use std::time::Duration;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
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
    let mut job = guest.workload(guest.meminfo("MemAvailable")? / 1024 + 64, 1)?;
    job.filled()?;
    job.order(Order::Verify)?;
    assert!(daemon.stats()?.number("/vms/vm0/persistent_pages")? > 32 * MIB);
    job.end()?;

    // The other unit has found nothing to attach: the root is no disk.
    let unit = "tmem-attach.service";
    let is_active = || {
        let (_, state) = guest.try_run(&format!("systemctl is-active {unit}"))?;
        Ok((state.trim() == "active").then_some(()))
    };
    until(unit, STARTED, is_active)?;
    guest.run(&format!("systemctl reload {unit}"))?;
    guest.run(&format!("systemctl stop {unit}"))?;
    let status = guest.run("tmemctl status")?;
    assert!(status.contains("Nothing is attached"), "{status}");
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}
