// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A front end that takes one back end for the other, and tells the driver nothing.

use crate::bed;
use anyhow::Result;
use std::time::Duration;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::DaemonPlace;
use tmem_e2e::Guest;
use tmem_e2e::Host;
use tmem_e2e::Relay;
use tmem_e2e::until;

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
