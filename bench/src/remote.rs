// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A store with memory for a tenth of its pages and a Valkey cluster for the others, beside one with
//! memory for all; and reads of remote pages beside what the client itself needs for as many bytes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis::cluster::{ClusterClient, ClusterConnection};
use tmem_remote::{Settings, Valkey};
use tmem_store::{Get, PAGE_SIZE, Page, StoreConfig};

use crate::corpus::{Corpus, is_same_filled};
use crate::report::Report;
use crate::samples::Samples;
use crate::spill::{Filled, OBJECT, fill};

/// Bytes of pages that are put, and the part of them that memory has room for, compressed or not.
const PUT: usize = 256 << 20;
const PART: u64 = 10;

/// Pages that are read one by one, and runs of them.
const READS: u64 = 5_000;
const RUNS: u64 = 200;
const RUN: u32 = 32;

/// Bytes that the client reads of a value: about as many as a page has, compressed.
const VALUE: usize = 1536;

/// The cluster.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Of remote: the cluster, as the daemon's --remote has it.
    #[arg(long, value_name = "URL")]
    remote: Option<String>,
}

/// Measures pages of processes.
pub(crate) fn run(args: &Args, corpus: &Corpus, report: &mut Report) -> Result<()> {
    let url = args.remote.as_deref().context("--remote URL is needed")?;
    let settings = Settings::parse(url, |_| Ok(0)).map_err(anyhow::Error::msg)?;
    let varied = corpus.process.iter().filter(|page| !is_same_filled(page));
    let varied: Vec<&Page> = varied.collect();
    let alone = fill(StoreConfig::with_limit(4 * PUT as u64), &varied, PUT)?;
    let held = alone.store.held_bytes();
    let remote = Valkey::open(&settings, 4 * held, || ())?;
    let config = StoreConfig::with_limit(held / PART).with_spill(remote);
    let filled = fill(config, &varied, PUT)?;
    let stats = filled.store.stats();
    let share = stats.spilled_pages as f64 / stats.persistent_pages as f64;
    report.metric("pages that are remote", share * 100.0, "%");
    let of = "puts per second while pages are moved there";
    report.against(of, filled.rate, "", "memory for all", alone.rate);
    let write = stats.spill_write_microseconds as f64 / stats.spill_written_segments.max(1) as f64;
    report.metric(
        "a segment, written and acknowledged by a replica, mean",
        write,
        "us",
    );
    read(&filled, &varied, &settings, report)
}

/// Reads pages here and there, each once, and as many bytes by the client in turn.
fn read(filled: &Filled, pages: &[&Page], settings: &Settings, report: &mut Report) -> Result<()> {
    let mut client = client(settings)?;
    let (mut of_store, mut of_client) = (Samples::default(), Samples::default());
    let count = (PUT / PAGE_SIZE) as u64;
    let mut page = [0; PAGE_SIZE];
    let mut random = fastrand::Rng::with_seed(1);
    let remote_reads = || filled.store.stats().spill_read_pages;
    // The first half: the last pages are in memory.
    for nth in 0..READS {
        let index = random.u64(..count / 2);
        let before = remote_reads();
        let start = Instant::now();
        let get = filled.pool.get(&OBJECT, index, &mut page);
        let time = start.elapsed();
        if remote_reads() > before {
            of_store.keep(time);
        }
        ensure!(get == Get::Hit, "page {index}: {get:?}");
        let expected = pages.get(usize::try_from(index)? % pages.len());
        ensure!(
            expected.is_some_and(|it| **it == page),
            "page {index} is another"
        );
        let mut command = redis::cmd("GETRANGE");
        command
            .arg(format!("bench:{}", nth % KEYS))
            .arg(0)
            .arg(VALUE - 1);
        let start = Instant::now();
        let value: Vec<u8> = command.query(&mut client)?;
        of_client.keep(start.elapsed());
        ensure!(value.len() == VALUE);
    }
    let mut of_runs = Samples::default();
    for _ in 0..RUNS {
        let first = random.u64(..count / 2);
        let before = remote_reads();
        let start = Instant::now();
        let mut found = 0;
        filled.pool.get_run(&OBJECT, first, RUN, &mut |_, page| {
            found += u32::from(matches!(page, Ok(Some(_))));
        });
        let time = start.elapsed();
        ensure!(found == RUN, "{found} of {RUN} pages were found");
        if remote_reads() - before >= u64::from(RUN) - 4 {
            of_runs.keep(time / RUN);
        }
    }
    let of = "read of a remote page, median";
    report.against(
        of,
        of_store.median(),
        "us",
        "the client's round trip",
        of_client.median(),
    );
    report.metric("read of a remote page, p99", of_store.p99(), "us");
    report.metric("the client's round trip, p99", of_client.p99(), "us");
    report.metric(
        "a page of a run of 32 remote ones, median",
        of_runs.median(),
        "us",
    );
    let what = "read of a remote page, beside the client's round trip";
    report.target_at_most(what, of_store.median() / of_client.median(), 1.3);
    Ok(())
}

/// Values that the client reads.
const KEYS: u64 = 64;

/// The client by itself, with some values to read.
fn client(settings: &Settings) -> Result<ClusterConnection> {
    let nodes = settings.nodes.iter();
    let nodes = nodes.map(|(host, port)| format!("redis://{host}:{port}"));
    let client = ClusterClient::builder(nodes).response_timeout(Duration::from_secs(5));
    let mut connection = client.build()?.get_connection()?;
    for nth in 0..KEYS {
        let mut command = redis::cmd("SET");
        command.arg(format!("bench:{nth}")).arg(vec![7_u8; VALUE]);
        command.exec(&mut connection)?;
    }
    Ok(connection)
}
