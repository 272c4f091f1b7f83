// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Remote memory, in a real cluster whose nodes die, do not answer, and lose all they have.

mod guest;
mod pages;
mod partition;
mod protected;
mod reshard;

use crate::bed;
use crate::bed::PROMPT;
use anyhow::Result;
use anyhow::ensure;
use pages::Pages;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::Cluster;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::until;

/// Memory of the store: about a tenth of what is put.
const MEMORY: u64 = 8 << 20;
const PAGES: u64 = 20_000;

/// Waits until it is so.
fn becomes(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    until(what, PROMPT, || Ok(is_so()?.then_some(())))
}

#[test]
fn a_node_that_dies_under_load_costs_no_page() -> Result<()> {
    let mut cluster = Cluster::start(&bed::assets()?.services)?;
    let mut pages = Pages::open(&cluster.url("namespace=dies&size=1G"), MEMORY)?;
    pages.put_new(PAGES)?;
    ensure!(
        pages.remote() > PAGES / 2,
        "only {} are remote",
        pages.remote()
    );
    ensure!(cluster.keys()? > 0);
    for round in 0..2 {
        let dead = cluster.primary()?;
        cluster.kill(dead)?;
        // Reads wait for the replica to take its place; nothing is written meanwhile, since nobody could
        // acknowledge it.
        pages.churn(2_000)?;
        println!("round {round}: {} pages are remote", pages.remote());
        cluster.start_again(dead)?;
        cluster.is_whole()?;
        pages.churn(2_000)?;
    }
    pages.verify()?;
    pages.drop_all();
    // What is needed no longer goes there, too; whose namespace it is stays.
    becomes("the keys to go", || Ok(cluster.keys()? <= 2))
}

#[test]
fn nobody_who_needs_no_remote_page_waits_for_a_cluster_that_is_silent() -> Result<()> {
    let cluster = Cluster::start(&bed::assets()?.services)?;
    let mut pages = Pages::open(&cluster.url("namespace=silent&size=1G&timeout=600"), MEMORY)?;
    pages.put_new(PAGES)?;
    cluster.set_silent(true)?;
    // A get that needs the cluster ends when it is told to.
    let begin = Instant::now();
    let stopped = pages.get_while(&mut || begin.elapsed() < Duration::from_millis(200));
    ensure!(stopped > 0, "no get was stopped");
    // Pages in memory are there, and puts are refused when they find none.
    let (kept, refused) = pages.put_some_new(4_000);
    println!(
        "{kept} pages were kept, {refused} refused, in {:?}",
        begin.elapsed()
    );
    ensure!(refused > 0);
    cluster.set_silent(false)?;
    cluster.is_whole()?;
    pages.verify()
}

#[test]
fn a_cluster_that_has_lost_all_costs_what_was_there_and_nothing_else() -> Result<()> {
    let cluster = Cluster::start(&bed::assets()?.services)?;
    let mut pages = Pages::open(&cluster.url("namespace=empty&size=1G"), MEMORY)?;
    pages.put_new(PAGES)?;
    pages.rest();
    let remote = pages.remote();
    cluster.empty()?;
    let lost = pages.count_lost()?;
    ensure!(lost == remote, "{lost} of {remote} are lost");
    // It goes on.
    pages.go_on()?;
    pages.put_new(PAGES)?;
    pages.verify()
}

#[test]
fn a_namespace_is_one_daemon_s() -> Result<()> {
    let assets = bed::assets()?;
    let cluster = Cluster::start(&assets.services)?;
    let url = cluster.url("namespace=mine&size=1G");
    let options = DaemonOptions {
        remote: Some(url.clone()),
        ..DaemonOptions::default()
    };
    let daemon = Daemon::start(&assets, &options)?;
    let other = Pages::open(&url, MEMORY);
    let other = other.err().map(|error| format!("{error:#}"));
    let other = other.unwrap_or_default();
    ensure!(other.contains("another daemon of this host"), "{other}");
    // Of a daemon that was killed, and somebody else's.
    cluster.set("tmem:mine:0123456789abcdef:0:1")?;
    cluster.set("others")?;
    daemon.kill()?;
    let pages = Pages::open(&url, MEMORY)?;
    becomes("what nobody needs to go", || {
        Ok(cluster.names()? == ["others", "tmem:mine:owner"])
    })?;
    drop(pages);
    // Another host's stays another's.
    cluster.set("tmem:theirs:owner")?;
    let theirs = Pages::open(&cluster.url("namespace=theirs&size=1G"), MEMORY);
    let theirs = theirs.err().map(|error| format!("{error:#}"));
    let theirs = theirs.unwrap_or_default();
    ensure!(
        theirs.contains("remove the key tmem:theirs:owner"),
        "{theirs}"
    );
    Ok(())
}
