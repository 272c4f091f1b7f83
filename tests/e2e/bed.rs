// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What every test starts from and ends with.

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::time::Duration;
use tmem_e2e::Assets;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::Machine;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// For the daemon to learn what the guest has freed: the guest gathers freed
/// pages for a while before it flushes them.
const SETTLE: Duration = Duration::from_secs(60);

/// For a program to do what it does at once.
pub(crate) const PROMPT: Duration = Duration::from_secs(30);

/// Pages in a MiB.
pub(crate) const MIB: u64 = 256;

pub(crate) fn assets() -> Result<Assets> {
    Assets::from_environment()
}

pub(crate) fn daemon(options: DaemonOptions) -> Result<Daemon> {
    Daemon::start(&assets()?, &options)
}

/// A guest of `memory_mib` MiB whose device is `vm` of `daemon`.
pub(crate) fn guest(name: &str, memory_mib: u64, daemon: &Daemon, vm: &str) -> Result<Guest> {
    Guest::boot(
        &assets()?,
        GuestOptions {
            name: name.into(),
            memory_mib,
            device: Some(daemon.socket(vm)),
            ..GuestOptions::default()
        },
    )
}

/// Waits until the number at `pointer` of the statistics satisfies `holds`.
pub(crate) fn settles(daemon: &Daemon, pointer: &str, holds: impl Fn(u64) -> bool) -> Result<u64> {
    let mut last = 0;
    until(pointer, SETTLE, || {
        last = daemon.stats()?.number(pointer)?;
        Ok(holds(last).then_some(last))
    })
    .map_err(|error| error.context(format!("{pointer} is {last}")))
}

/// What a command prints in the guest, as JSON.
pub(crate) fn json<M: Machine>(guest: &Guest<M>, line: &str) -> Result<Value> {
    let text = guest.run(line)?;
    serde_json::from_str(&text).with_context(|| format!("{line} says {text:?}"))
}

/// A program that needs `mib` MiB finds every page of it as it left it.
pub(crate) fn swaps<M: Machine>(guest: &Guest<M>, mib: u64) -> Result<()> {
    let mut job = guest.workload(mib, 1)?;
    job.filled()?;
    job.order(Order::Verify)?;
    job.end()?;
    nothing_lost(guest)
}

/// No page is lost, and no request was malformed.
pub(crate) fn nothing_lost<M: Machine>(guest: &Guest<M>) -> Result<()> {
    for counter in ["lost", "rejected", "io_errors"] {
        let value = guest.counter(counter)?;
        ensure!(value == 0, "the guest counts {counter} = {value}");
    }
    Ok(())
}
