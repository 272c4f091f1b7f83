// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A client that is cloned, whatever it has; and what it and its clone pay afterwards, beside a client
//! that has no clone.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use tmem_store::{Client, ClientConfig, Get, ObjectId, PAGE_SIZE, Page, Pool, Store, StoreConfig};

use crate::report::Report;
use crate::samples::median;
use crate::store::persistent;

const OBJECT: ObjectId = [6; 24];

/// Pages that are cloned.
const MILLION: u64 = 1_000_000;
const FEW: u64 = 10_000;

/// Milliseconds that a clone may take.
const CLONE: f64 = 1.0;

/// Pages that are got and put afterwards.
const SOME: u64 = 100_000;

struct Source {
    store: Store,
    client: Client,
}

impl Source {
    fn with(count: u64, pages: &[Page]) -> Result<Self> {
        let config = StoreConfig::with_limit(count * PAGE_SIZE as u64 * 2 + (64 << 20));
        let (store, client, pool) = persistent(config.with_deferred_limit(0))?;
        fill(&pool, 0..count, pages)?;
        Ok(Self { store, client })
    }

    fn clone(&self, nth: usize) -> Result<Client> {
        let clone = ClientConfig::new(format!("clone {nth}"), u64::MAX);
        let clone = self.store.add_client(clone)?;
        let base = self.client.to_base(|_, _| true)?;
        clone.go_on_over(&base)?;
        Ok(clone)
    }
}

fn fill(pool: &Pool, range: std::ops::Range<u64>, pages: &[Page]) -> Result<()> {
    for (index, page) in range.zip(pages.iter().cycle()) {
        let put = pool.put(&OBJECT, index, page);
        ensure!(put.result.is_ok(), "page {index} was refused: {put:?}");
    }
    Ok(())
}

fn pool(client: &Client) -> Result<Pool> {
    client
        .pool(0)
        .ok_or_else(|| anyhow::anyhow!("the pool is gone"))
}

/// Measures clones of little and of much.
pub(crate) fn run(pages: &[Page], report: &mut Report) -> Result<()> {
    let little = times(FEW, pages)?.0;
    let (much, source, clones) = times(MILLION, pages)?;
    let what = "a client with a million pages cloned, in ms";
    report.against(what, much, "", "one with 10,000", little);
    report.limit("a client with a million pages cloned", much, "ms", CLONE);
    let held = source.store.held_bytes() as f64;
    let alone = Source::with(MILLION, pages)?;
    let what = format!("bytes held for it and {} clones", clones.len());
    report.against(what, held, "", "it alone", alone.store.held_bytes() as f64);
    let clone = clones.last().ok_or_else(|| anyhow::anyhow!("no clone"))?;
    let (shared, own) = (pool(clone)?, pool(&alone.client)?);
    let both = [gets(&shared)?, gets(&own)?];
    report.against(
        "ns for a get of a shared page",
        both[0],
        "",
        "its own",
        both[1],
    );
    let both = [puts(&shared, pages)?, puts(&own, pages)?];
    report.against(
        "ns for a put over a shared page",
        both[0],
        "",
        "its own",
        both[1],
    );
    Ok(())
}

/// Milliseconds for a clone of a client that has changed since the one before, and what is there then.
fn times(count: u64, pages: &[Page]) -> Result<(f64, Source, Vec<Client>)> {
    let source = Source::with(count, pages)?;
    let (mut times, mut clones) = (Vec::new(), Vec::new());
    for nth in 0..Client::MOST_BASES {
        fill(&pool(&source.client)?, 0..1, pages)?;
        let start = Instant::now();
        let clone = source.clone(nth)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        let there = clone.stats().persistent_pages;
        ensure!(there == count, "{there} of {count} pages are there");
        clones.push(clone);
    }
    Ok((median(times).unwrap_or(f64::NAN), source, clones))
}

fn gets(pool: &Pool) -> Result<f64> {
    let mut page = [0; PAGE_SIZE];
    let start = Instant::now();
    for nth in 0..SOME {
        let got = pool.get(&OBJECT, nth * 7 % MILLION, &mut page);
        ensure!(got == Get::Hit, "a page is missing");
        black_box(&page);
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / SOME as f64)
}

fn puts(pool: &Pool, pages: &[Page]) -> Result<f64> {
    let start = Instant::now();
    fill(pool, 1000..1000 + SOME, pages)?;
    Ok(start.elapsed().as_secs_f64() * 1e9 / SOME as f64)
}
