// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices whose queues are not what the driver hoped for.

use crate::bed;
use anyhow::Result;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::protocol::Order;

/// Reads of a page each, one after the other.
const READS: u64 = 256;

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
    let mut job = guest.workload(208, 1)?;
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

/// Reads what it wrote to the disk, page by page, with a parameter of the module; how often a task
/// looked for an answer, and how often it found it.
fn polls(name: &str, parameter: &str) -> Result<(u64, u64)> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest(name, 160, &daemon, "vm0")?;
    guest.load_module_with(parameter)?;
    guest.disk_appears()?;
    let dd = |way| format!("busybox dd bs=4096 count={READS} {way}");
    guest.run(&dd("if=/bin/busybox of=/dev/tmem0 oflag=direct"))?;
    let before = guest.counter("attempted_polls")?;
    guest.run(&dd("if=/dev/tmem0 of=/two iflag=direct"))?;
    guest.sh(&format!("{} | cmp - /two", dd("if=/bin/busybox")))?;
    let polls = (
        guest.counter("attempted_polls")? - before,
        guest.counter("successful_polls")?,
    );
    assert_eq!(guest.counter("io_errors")?, 0);
    guest.power_off()?;
    daemon.stop()?;
    Ok(polls)
}

#[test]
fn a_task_looks_for_the_answer_to_its_read_before_it_sleeps() -> Result<()> {
    // Answers take longer on emulated CPUs.
    let (attempted, successful) = polls("polls", "poll_micros=1000")?;
    assert!(attempted >= READS, "{attempted}");
    assert!(successful > 0);
    Ok(())
}

#[test]
fn a_task_that_is_not_to_look_sleeps_at_once() -> Result<()> {
    assert_eq!(polls("no-polls", "poll_micros=0")?, (0, 0));
    Ok(())
}
