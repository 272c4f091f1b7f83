// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A daemon with memory for a part of what its guest swaps out, and a spill area for the rest.

use crate::bed;
use crate::bed::MIB;
use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::DaemonPlace;
use tmem_e2e::Guest;
use tmem_e2e::Host;
use tmem_e2e::Job;
use tmem_e2e::protocol::Order;

/// Memory of the guest, and what the program in it needs beyond that, in MiB.
const MEMORY: u64 = 160;
const OVER: u64 = 32;

#[test]
fn what_memory_has_no_room_for_is_spilled_and_comes_back() -> Result<()> {
    let options = DaemonOptions {
        spill: Some("256M"),
        ..DaemonOptions::default()
    };
    Moved::out("spill", options)?.outlives_the_daemon()
}

/// A guest that has swapped out ten times what its daemon has memory for.
pub(crate) struct Moved {
    pub(crate) place: DaemonPlace,
    pub(crate) daemon: Daemon,
    pub(crate) guest: Guest,
    pub(crate) job: Job,
}

impl Moved {
    /// Starts all of it, and has the guest fill its memory and more.
    pub(crate) fn out(name: &str, options: DaemonOptions) -> Result<Self> {
        let place = DaemonPlace::new(
            &Host::here(&bed::assets()?)?,
            DaemonOptions {
                // A tenth of what is swapped out; compressed, a fifth of it.
                memory_limit: "12M",
                kept: true,
                ..options
            },
        )?;
        let daemon = place.start()?;
        let guest = bed::guest(name, MEMORY, &daemon, "vm0")?;
        guest.swap_on()?;
        let mut job = guest.workload(MEMORY + OVER, 1)?;
        job.filled()?;
        let stats = daemon.stats()?;
        let (pages, moved) = (
            stats.number("/vms/vm0/persistent_pages")?,
            stats.number("/vms/vm0/spilled_pages")?,
        );
        println!("{moved} of {pages} pages are not in memory");
        ensure!(pages >= OVER * MIB, "the daemon has only {pages} pages");
        ensure!(
            moved > pages / 2,
            "only {moved} of {pages} have left memory"
        );
        ensure!(stats.number("/store/held_bytes")? <= 12 << 20);
        Ok(Self {
            place,
            daemon,
            guest,
            job,
        })
    }

    /// The next daemon has all pages, too.
    pub(crate) fn outlives_the_daemon(self) -> Result<()> {
        let Self {
            place,
            daemon,
            guest,
            mut job,
        } = self;
        job.tell(Order::Churn)?;
        job.moves()?;
        daemon.kill()?;
        let daemon = place.start()?;
        job.checked()?;
        job.order(Order::Verify)?;
        ensure!(daemon.stats()?.number("/vms/vm0/spill_read_pages")? > 0);
        job.end()?;
        bed::nothing_lost(&guest)?;
        guest.run("swapoff /dev/tmem0")?;
        guest.run("rmmod virtio_tmem")?;
        bed::settles(&daemon, "/vms/vm0/spilled_bytes", |bytes| bytes == 0)?;
        guest.power_off()?;
        daemon.stop()
    }
}
