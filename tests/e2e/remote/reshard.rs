// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Slots move from node to node while their pages are read and replaced.

use super::MEMORY;
use super::PAGES;
use super::pages::Pages;
use crate::bed;
use anyhow::Result;
use anyhow::ensure;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use tmem_e2e::Cluster;

/// Slots that move each time: about a seventh of what a node has.
const SLOTS: u32 = 800;

#[test]
fn slots_that_move_under_load_cost_no_page() -> Result<()> {
    let cluster = Cluster::start(&bed::assets()?.services)?;
    let mut pages = Pages::open(&cluster.url("namespace=moves&size=1G&timeout=600"), MEMORY)?;
    pages.put_new(PAGES)?;
    let slots = || -> Result<[usize; 2]> { Ok([cluster.slots_of(0)?, cluster.slots_of(2)?]) };
    let before = slots()?;
    let are_moved = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut rounds = 0;
            while !are_moved.load(Relaxed) {
                pages.churn(200)?;
                rounds += 1;
            }
            anyhow::Ok(rounds)
        });
        let moved = cluster.reshard(SLOTS, 0, 1);
        let moved = moved.and_then(|()| cluster.reshard(SLOTS, 1, 2));
        are_moved.store(true, Relaxed);
        let rounds = load.join();
        let rounds = rounds.map_err(|_| anyhow::anyhow!("the load has failed"))?;
        moved.and(rounds)
    })?;
    let after = slots()?;
    println!("{rounds} rounds; slots were {before:?}, are {after:?}");
    ensure!(rounds > 1, "all was moved before there was a load");
    let [from, to] = before;
    let moved = SLOTS as usize;
    ensure!(after == [from - moved, to + moved], "slots have not moved");
    pages.churn(2_000)?;
    pages.verify()?;
    cluster.is_whole()
}
