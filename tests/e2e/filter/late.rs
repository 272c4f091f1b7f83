// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A filter that is attached before there is a device: it waits for it, and a second
//! device finds what the first left.

use crate::bed;
use crate::filter;
use crate::filter::control;
use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::Image;
use tmem_e2e::until;

/// Size of the disk in MiB.
const SIZE: u64 = 24;

/// Waits until the filter is in this state.
fn becomes(guest: &Guest, state: &str) -> Result<()> {
    let what = format!("the filter to be {state}");
    until(&what, bed::PROMPT, || {
        let status = guest.run("tmemctl status /dev/vda")?;
        Ok(status.contains(state).then_some(()))
    })
}

#[test]
fn a_filter_waits_for_a_device_that_was_never_there() -> Result<()> {
    let image = Image::empty(SIZE)?;
    let mut guest = filter::guest("late", 288, vec![Drive::new(image.path())])?;
    guest.load_module_with("precache_eager=1")?;
    control::hold(&guest, "/dev/vda")?;
    let said = guest.run("tmemctl attach /dev/vda --kind precache")?;
    ensure!(said.contains("The host's device is not there"), "{said}");
    becomes(&guest, "waiting")?;
    let mut load = guest.load("blocks /dev/vda --seed 1 --seconds 36000")?;
    load.check()?;
    ensure!(control::total(&guest, "puts")? == 0, "puts without a host");

    let daemon = bed::daemon(DaemonOptions::default())?;
    guest.plug(&daemon.socket("vm0"))?;
    becomes(&guest, "active")?;
    until("blocks to come to the host", bed::PROMPT, || {
        load.goes_on()?;
        Ok((control::total(&guest, "puts")? > 0).then_some(()))
    })?;
    load.check()?;

    // It goes, with all it has, and another one comes.
    guest.unplug()?;
    becomes(&guest, "waiting")?;
    load.check()?;
    daemon.stop()?;
    let daemon = bed::daemon(DaemonOptions::default())?;
    guest.plug(&daemon.socket("vm0"))?;
    becomes(&guest, "active")?;
    load.check()?;
    load.ends()?;
    load.ended()?;
    control::detach(&guest, "/dev/vda")?;
    guest.run("rmmod virtio_tmem")?;
    guest.power_off()?;
    daemon.stop()
}
