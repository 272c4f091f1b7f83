// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices whose queues are not what the driver hoped for.

use crate::bed;
use anyhow::Result;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::protocol::Order;

#[test]
fn a_device_with_fewer_queues_than_its_back_end_works_with_those() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions {
        request_queues: 4,
        ..DaemonOptions::default()
    })?;
    let guest = Guest::boot(
        &bed::assets()?,
        GuestOptions {
            name: "few-queues".into(),
            memory_mib: 160,
            // One for events, and one of the four.
            virtqueues: 2,
            device: Some(daemon.socket("vm0")),
            ..GuestOptions::default()
        },
    )?;
    guest.swap_on()?;
    guest.says("the device has 1 request queues", bed::PROMPT)?;
    bed::swaps(&guest, 224)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn a_device_that_comes_back_with_smaller_queues_is_told_apart() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = bed::guest("small-ring", 160, &daemon, "vm0")?;
    guest.swap_on()?;
    let mut job = guest.workload(256, 1)?;
    job.filled()?;

    // Requests that wait for the device, and those to come, may be longer than this queue.
    guest.unplug()?;
    guest.plug_with(&daemon.socket("vm0"), 32)?;
    guest.says("the device's queues are too small", bed::PROMPT)?;
    guest.unplug()?;

    // With queues as before, nothing has happened.
    guest.plug(&daemon.socket("vm0"))?;
    job.order(Order::Churn)?;
    job.order(Order::Verify)?;
    job.end()?;
    bed::nothing_lost(&guest)?;
    assert_eq!(guest.counter("reattaches")?, 1);
    guest.power_off()?;
    daemon.stop()
}
