// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device goes away while it is in use.

use crate::bed;
use anyhow::Result;
use anyhow::bail;
use tmem_e2e::DaemonOptions;
use tmem_e2e::protocol;
use tmem_e2e::protocol::Order;

/// SIGBUS: the kernel's answer to a page that cannot be brought back.
const BUS_ERROR: i32 = 7;

#[test]
fn a_device_that_comes_back_under_load_has_every_page() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = bed::guest("replug", 160, &daemon, "vm0")?;
    guest.swap_on()?;
    let mut job = guest.workload(288, 1)?;
    job.filled()?;
    for round in 1..=2 {
        job.tell(Order::Churn)?;
        job.moves()?;
        guest.unplug()?;
        guest.plug(&daemon.socket("vm0"))?;
        job.checked()?;
        assert_eq!(guest.counter("reattaches")?, round);
    }
    job.order(Order::Verify)?;
    job.end()?;
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}

/// Once the device is gone, the kernel is to keep far more memory free than there is, until the reserve has
/// been asked.
const MAKE_MEMORY_SHORT: &str = "workload shortage </dev/null >/dev/null 2>/dev/kmsg &";

#[test]
fn nobody_is_killed_because_the_device_that_comes_back_needs_memory() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = bed::guest("no-memory", 160, &daemon, "vm0")?;
    // The test decides how long the device is gone.
    guest.swap_on_with("reattach_timeout=1200")?;
    let mut job = guest.workload(160, 1)?;
    job.filled()?;
    assert_eq!(guest.counter("relief_pages")?, 0);
    guest.sh(MAKE_MEMORY_SHORT)?;
    guest.says(protocol::SHORTAGE_READY, bed::PROMPT)?;
    guest.unplug()?;
    guest.says(protocol::MEMORY_IS_SHORT, bed::PROMPT)?;
    guest.plug(&daemon.socket("vm0"))?;
    job.order(Order::Verify)?;
    job.end()?;
    bed::nothing_lost(&guest)?;
    assert!(guest.counter("relief_pages")? > 0);
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn pages_that_went_with_their_daemon_are_reported_not_replaced() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = bed::guest("lost", 160, &daemon, "vm0")?;
    guest.swap_on()?;
    let mut job = guest.workload(256, 1)?;
    job.filled()?;
    guest.unplug()?;
    daemon.stop()?;

    let other = bed::daemon(DaemonOptions::default())?;
    guest.plug(&other.socket("vm0"))?;
    job.tell(Order::Verify)?;
    match job.outcome()? {
        Err(ended) => assert_eq!(ended.signal, Some(BUS_ERROR), "{ended:?}"),
        Ok(account) => bail!("pages of a daemon that is gone came back: {account:?}"),
    }
    // The kernel is none the worse.
    guest.power_off()?;
    other.stop()
}
