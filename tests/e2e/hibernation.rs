// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that is to hibernate.

use crate::bed;
use anyhow::Result;
use std::time::Duration;
use tmem_e2e::DaemonOptions;
use tmem_e2e::protocol::Order;

/// What the module says when it refuses.
const REFUSAL: &str = "hibernation is refused";

#[test]
fn hibernation_is_refused_while_the_host_has_pages() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("hibernation", 160, &daemon, "vm0")?;
    guest.swap_on()?;
    let mut job = guest.workload(176, 1)?;
    job.filled()?;

    // Without the refusal the image would go to /dev/tmem0, and the guest would be off.
    let hibernated = guest.write("/sys/power/state", "disk");
    assert!(hibernated.is_err(), "the guest hibernated");
    guest.says(REFUSAL, Duration::from_secs(10))?;

    // It swaps on as if nothing had been.
    job.order(Order::Verify)?;
    job.end()?;
    bed::nothing_lost(&guest)?;
    guest.run("swapoff /dev/tmem0")?;
    guest.run("rmmod virtio_tmem")?;
    guest.power_off()?;
    daemon.stop()
}
