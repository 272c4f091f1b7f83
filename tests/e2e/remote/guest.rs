// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that swaps to a daemon with remote memory, while a node dies, and then the daemon.

use crate::bed;
use crate::bed::MIB;
use crate::bed::PROMPT;
use anyhow::Result;
use anyhow::ensure;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::Cluster;
use tmem_e2e::DaemonOptions;
use tmem_e2e::DaemonPlace;
use tmem_e2e::Host;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// Memory of the guest, and what the program in it needs beyond that, in MiB.
const MEMORY: u64 = 160;
const OVER: u64 = 32;

#[test]
fn what_a_guest_swaps_out_outlives_a_node_and_the_daemon() -> Result<()> {
    let assets = bed::assets()?;
    let mut cluster = Cluster::start(&assets.services)?;
    let place = DaemonPlace::new(
        &Host::here(&assets)?,
        DaemonOptions {
            memory_limit: "12M",
            remote: Some(cluster.url("namespace=guest&size=256M&timeout=600")),
            kept: true,
            ..DaemonOptions::default()
        },
    )?;
    let daemon = place.start()?;
    let guest = bed::guest("remote", MEMORY, &daemon, "vm0")?;
    guest.swap_on()?;
    let mut job = guest.workload(MEMORY + OVER, 1)?;
    job.filled()?;
    let stats = daemon.stats()?;
    let (pages, remote) = (
        stats.number("/vms/vm0/persistent_pages")?,
        stats.number("/vms/vm0/spilled_pages")?,
    );
    println!("{remote} of {pages} pages are remote");
    ensure!(pages >= OVER * MIB, "the daemon has only {pages} pages");
    ensure!(remote > pages / 2, "only {remote} of {pages} are remote");
    ensure!(stats.number("/store/held_bytes")? <= 12 << 20);

    let dead = cluster.primary()?;
    cluster.kill(dead)?;
    job.order(Order::Verify)?;
    cluster.start_again(dead)?;
    cluster.is_whole()?;

    // It can be paused while it waits for a cluster that is silent.
    cluster.set_silent(true)?;
    job.tell(Order::Verify)?;
    let reads = || daemon.stats()?.number("/vms/vm0/spill_read_pages");
    let mut before = reads()?;
    until("the guest to wait", PROMPT, || {
        let now = reads()?;
        std::thread::sleep(Duration::from_millis(300));
        Ok((std::mem::replace(&mut before, now) == now).then_some(()))
    })?;
    let begin = Instant::now();
    guest.qmp("stop", json!({}))?;
    println!("paused after {:?}", begin.elapsed());
    ensure!(begin.elapsed() < PROMPT, "it took {:?}", begin.elapsed());
    cluster.set_silent(false)?;
    guest.qmp("cont", json!({}))?;
    job.checked()?;
    cluster.is_whole()?;

    // The next daemon has them, too.
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
