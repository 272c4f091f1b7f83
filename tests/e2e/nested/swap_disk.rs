// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A plain disk of a daemon beside the VMM, for any guest.

use crate::bed::MIB;
use crate::bed::PROMPT;
use crate::nested;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::path::PathBuf;
use std::sync::Arc;
use tmem_e2e::DaemonOptions;
use tmem_e2e::DaemonPlace;
use tmem_e2e::Guest;
use tmem_e2e::Host;
use tmem_e2e::Vmm;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// The disk's name at the daemon.
const VM: &str = "swap0";

/// Bytes of it in sectors.
const SIZE: &str = "256M";
const SECTORS: &str = "524288";

/// Of the program that is swapped out, in MiB, and how much of it is at least.
const LOAD: u64 = nested::MEMORY;
const OVER: u64 = 32;

/// What the kernel says of swap that does not answer as it should.
const TROUBLE: [&str; 3] = ["I/O error", "Write-error", "Out of memory"];

/// A place for a daemon with the disk. What it keeps outlives it.
pub(super) fn place(host: &Arc<Host>) -> Result<DaemonPlace> {
    DaemonPlace::new(
        host,
        DaemonOptions {
            vms: Vec::new(),
            disks: vec![VM],
            swap_size: SIZE,
            quota: SIZE,
            memory_limit: "512M",
            kept: true,
            ..DaemonOptions::default()
        },
    )
}

/// The disk's socket.
pub(super) fn socket(place: &DaemonPlace) -> PathBuf {
    place.socket(VM)
}

/// The disk `name` of `guest` gets its size when the daemon comes, and has what is swapped out
/// while that is killed.
pub(super) fn serves(guest: &Guest<Vmm>, name: &str, place: &DaemonPlace) -> Result<()> {
    let size = || guest.read(&format!("/sys/block/{name}/size"));
    ensure!(size()?.trim() == "0", "there is no daemon: {}", size()?);
    let daemon = place.start()?;
    until("the disk to have a size", PROMPT, || {
        Ok((size()?.trim() == SECTORS).then_some(()))
    })?;
    let said = guest.console().len();
    guest.run(&format!("swapon --discard /dev/{name}"))?;
    let mut job = guest.workload(LOAD, 1)?;
    job.filled()?;
    let pages = daemon
        .stats()?
        .number(&format!("/vms/{VM}/persistent_pages"))?;
    ensure!(pages >= OVER * MIB, "{pages} pages are there");

    job.tell(Order::Churn)?;
    job.moves()?;
    daemon.kill()?;
    let daemon = place.start()?;
    job.checked()?;
    job.order(Order::Verify)?;
    job.end()?;
    guest.run(&format!("swapoff /dev/{name}"))?;
    let console = guest.console();
    let said = console.get(said..).context("the console is shorter")?;
    let is_trouble = |line: &&str| TROUBLE.iter().any(|trouble| line.contains(trouble));
    let trouble: Vec<_> = said.lines().filter(is_trouble).collect();
    ensure!(trouble.is_empty(), "{}", trouble.join("\n"));
    let connected = format!("/tmem/{name}/connected");
    ensure!(guest.stats()?.number(&connected)? == 1);
    daemon.stop()
}
