// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that swaps to a daemon with remote memory, while a node dies, nodes are silent, and the
//! daemon dies.

use crate::bed;
use crate::bed::PROMPT;
use crate::spill::Moved;
use anyhow::Result;
use anyhow::ensure;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::Cluster;
use tmem_e2e::DaemonOptions;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

#[test]
fn what_a_guest_swaps_out_outlives_a_node_and_the_daemon() -> Result<()> {
    let mut cluster = Cluster::start(&bed::assets()?.services)?;
    let options = DaemonOptions {
        remote: Some(cluster.url("namespace=guest&size=256M&timeout=600")),
        ..DaemonOptions::default()
    };
    let mut moved = Moved::out("remote", options)?;

    let dead = cluster.primary()?;
    cluster.kill(dead)?;
    moved.job.order(Order::Verify)?;
    cluster.start_again(dead)?;
    cluster.is_whole()?;

    // It can be paused while it waits for a cluster that is silent.
    cluster.set_silent(true)?;
    moved.job.tell(Order::Verify)?;
    let reads = || moved.daemon.stats()?.number("/vms/vm0/spill_read_pages");
    let mut before = reads()?;
    until("the guest to wait", PROMPT, || {
        let now = reads()?;
        std::thread::sleep(Duration::from_millis(300));
        Ok((std::mem::replace(&mut before, now) == now).then_some(()))
    })?;
    let begin = Instant::now();
    moved.guest.qmp("stop", json!({}))?;
    println!("paused after {:?}", begin.elapsed());
    ensure!(begin.elapsed() < PROMPT, "it took {:?}", begin.elapsed());
    cluster.set_silent(false)?;
    moved.guest.qmp("cont", json!({}))?;
    moved.job.checked()?;
    cluster.is_whole()?;

    moved.outlives_the_daemon()
}
