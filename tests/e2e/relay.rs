// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A front end that takes one back end for the other, and tells the driver nothing.

use crate::bed;
use anyhow::Result;
use anyhow::bail;
use std::time::Duration;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::DaemonPlace;
use tmem_e2e::Guest;
use tmem_e2e::Host;
use tmem_e2e::Relay;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// SIGBUS: the kernel's answer to a page that cannot be brought back.
const BUS_ERROR: i32 = 7;

/// For the driver to notice something, on a busy machine.
const NOTICED: Duration = Duration::from_secs(120);

/// A daemon in a place where another one may follow, and a guest that reaches it through a relay.
fn bed(name: &str) -> Result<(DaemonPlace, Daemon, Relay, Guest)> {
    let host = Host::here(&bed::assets()?)?;
    let place = DaemonPlace::new(&host, DaemonOptions::default())?;
    let daemon = place.start()?;
    let relay = Relay::start(&place.socket("vm0"))?;
    let options = tmem_e2e::GuestOptions {
        name: name.into(),
        device: Some(relay.socket()),
        ..tmem_e2e::GuestOptions::default()
    };
    let guest = Guest::boot(&bed::assets()?, options)?;
    Ok((place, daemon, relay, guest))
}

#[test]
fn events_reach_a_driver_whose_rings_begin_at_its_available_index() -> Result<()> {
    let (_, daemon, _relay, guest) = bed("events")?;
    guest.swap_on()?;
    // More than once: buffers are given back.
    for quota in [512 << 20, 768 << 20, 256 << 20] {
        daemon.set_quota("vm0", quota)?;
        until("the driver to hear of its quota", NOTICED, || {
            Ok((guest.counter("quota_bytes")? == quota).then_some(()))
        })?;
    }
    bed::swaps(&guest, 224)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn a_back_end_that_was_replaced_unseen_is_another_instance() -> Result<()> {
    let (place, daemon, relay, guest) = bed("replaced")?;
    guest.swap_on()?;
    let mut job = guest.workload(256, 1)?;
    job.filled()?;
    daemon.kill()?;
    let daemon = place.start()?;
    until("the relay to find the other daemon", NOTICED, || {
        Ok((relay.replays() > 0).then_some(()))
    })?;

    // Its pages are gone, and it is told so.
    job.tell(Order::Verify)?;
    match job.outcome()? {
        Err(ended) => assert_eq!(ended.signal, Some(BUS_ERROR), "{ended:?}"),
        Ok(account) => bail!("pages of a daemon that is gone came back: {account:?}"),
    }
    guest.says("its back end is another one", NOTICED)?;
    guest.says("came back without the pages", NOTICED)?;
    assert!(!guest.console().contains("this is a bug"));

    assert_eq!(relay.fatal_reads(), 0);
    // Programs of the guest's are among what is lost: it can't be asked to switch off.
    guest.kill()?;
    daemon.stop()
}
