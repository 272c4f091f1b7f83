// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A plain disk of a daemon beside the VMM, for any guest.

use crate::bed::MIB;
use crate::bed::PROMPT;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
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
const SIZE: &str = "64M";
const SECTORS: &str = "131072";

/// Of the program that is swapped out, and how much of it is at least, in MiB. So little that the
/// kernel has to be asked: a guest in a guest is slow.
const LOAD: u64 = 24;
const OUT: u64 = 12;

/// What asks it.
const RECLAIM: &str = "echo 16M swappiness=max >/sys/fs/cgroup/memory.reclaim";

/// For so much to be swapped out.
const ASKED: Duration = Duration::from_secs(120);

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
            memory_limit: "128M",
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
/// after that was killed.
pub(super) fn serves(guest: &Guest<Vmm>, name: &str, place: &DaemonPlace) -> Result<()> {
    let size = || guest.read(&format!("/sys/block/{name}/size"));
    ensure!(size()?.trim() == "0", "there is no daemon: {}", size()?);
    let daemon = place.start()?;
    until("the disk to have a size", PROMPT, || {
        Ok((size()?.trim() == SECTORS).then_some(()))
    })?;
    let said = guest.console().len();
    guest.run(&format!("swapon /dev/{name}"))?;
    let mut job = guest.workload(LOAD, 1)?;
    job.filled()?;
    guest.run("busybox mount -t cgroup2 none /sys/fs/cgroup")?;
    let pages = format!("/vms/{VM}/persistent_pages");
    until("the program to be swapped out", ASKED, || {
        // It fails if less is found.
        guest.sh(&format!("{RECLAIM} || true"))?;
        let pages = daemon.stats()?.number(&pages)?;
        Ok((pages >= OUT * MIB).then_some(()))
    })?;

    job.tell(Order::Verify)?;
    job.moves()?;
    daemon.kill()?;
    let daemon = place.start()?;
    job.checked()?;
    let read = daemon
        .stats()?
        .number(&format!("/vms/{VM}/device/blocks_read/hit"))?;
    ensure!(read > 0, "nothing was read of the next daemon");
    job.end()?;
    let console = guest.console();
    let said = console.get(said..).context("the console is shorter")?;
    let is_trouble = |line: &&str| TROUBLE.iter().any(|trouble| line.contains(trouble));
    let trouble: Vec<_> = said.lines().filter(is_trouble).collect();
    ensure!(trouble.is_empty(), "{}", trouble.join("\n"));
    let connected = format!("/tmem/{name}/connected");
    ensure!(guest.stats()?.number(&connected)? == 1);
    daemon.stop()
}
