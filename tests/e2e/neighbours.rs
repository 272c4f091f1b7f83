// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Several guests on one daemon.

use crate::bed;
use crate::bed::MIB;
use anyhow::Result;
use tmem_e2e::DaemonOptions;
use tmem_e2e::protocol::Order;

#[test]
fn two_guests_never_see_each_others_pages() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions {
        vms: vec!["one", "two"],
        ..DaemonOptions::default()
    })?;
    let (one, two) = std::thread::scope(|scope| {
        let two = scope.spawn(|| bed::guest("two", 160, &daemon, "two"));
        let one = bed::guest("one", 160, &daemon, "one");
        let two = two
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (one, two)
    });
    let (one, two) = (one?, two?);
    for guest in [&one, &two] {
        guest.swap_on()?;
    }
    // Both use the same slots of swap disks of one size at the same time; a
    // page of the other has another seed and would be found out.
    let mut jobs = [one.workload(224, 1)?, two.workload(224, 2)?];
    for job in &mut jobs {
        job.filled()?;
    }
    for order in [Order::Churn, Order::Verify] {
        for job in &jobs {
            job.tell(order)?;
        }
        for job in &mut jobs {
            job.checked()?;
        }
    }
    for vm in ["one", "two"] {
        let pages = daemon
            .stats()?
            .number(&format!("/vms/{vm}/persistent_pages"))?;
        assert!(pages >= 64 * MIB, "{vm} has {pages} pages with the daemon");
    }
    for (guest, job) in [one, two].into_iter().zip(jobs) {
        job.end()?;
        bed::nothing_lost(&guest)?;
        guest.power_off()?;
    }
    daemon.stop()
}

#[test]
fn a_killed_guests_pages_are_freed_after_the_grace_period_and_no_others() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions {
        vms: vec!["victim", "witness"],
        grace: 3,
        ..DaemonOptions::default()
    })?;
    let witness = bed::guest("witness", 160, &daemon, "witness")?;
    witness.swap_on()?;
    let mut job = witness.workload(224, 1)?;
    job.filled()?;

    let victim = bed::guest("victim", 160, &daemon, "victim")?;
    victim.swap_on()?;
    victim.workload(224, 2)?.filled()?;
    let before = daemon.stats()?;
    assert!(before.number("/vms/victim/persistent_pages")? >= 64 * MIB);
    victim.kill()?;

    bed::settles(&daemon, "/vms/victim/persistent_pages", |pages| pages == 0)?;
    bed::settles(&daemon, "/vms/victim/held_bytes", |bytes| bytes == 0)?;
    let freed = before.number("/vms/victim/held_bytes")? / 2;
    let mapped = before.number("/store/mapped_bytes")?;
    bed::settles(&daemon, "/store/mapped_bytes", |now| now + freed < mapped)?;

    job.order(Order::Verify)?;
    job.end()?;
    bed::nothing_lost(&witness)?;
    witness.power_off()?;
    daemon.stop()
}
