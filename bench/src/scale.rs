// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One store with as many clients as a large host has guests, and the same pages in all: what each
//! page, each client and each look at all clients costs, beside one client.

use anyhow::{Context, Result, ensure};
use tmem_host::heap::Memory;
use tmem_store::{
    Client, ClientConfig, Get, ObjectId, PAGE_SIZE, Page, Pool, PoolConfig, PoolKind, Store,
    StoreConfig,
};

use crate::corpus::{Corpus, is_same_filled};
use crate::report::Report;
use crate::samples::Samples;

const OBJECT: ObjectId = [4; 24];

const CLIENTS: [usize; 4] = [1, 16, 256, 2048];

/// Pages in all.
const PAGES: u64 = 128 << 10;

/// Pages in a row of one client.
const RUN: u64 = 16;

/// Looks at all clients that are timed.
const LOOKS: usize = 200;

/// What was measured with so many clients.
struct Measured {
    put: Samples,
    get: Samples,
    /// A put that has another page evicted, and the part of them that is refused.
    short: Samples,
    refused: f64,
    /// The background thread's look for something to do, when there is nothing.
    look: Samples,
    stats: Samples,
    /// Bytes that the store counts for a page.
    held: f64,
    /// Bytes of the process for each client.
    client: f64,
}

struct World {
    store: Store,
    clients: Vec<(Client, Pool)>,
}

/// Measures each number of clients.
pub(crate) fn run(corpus: &Corpus, report: &mut Report) -> Result<()> {
    let mixed = corpus.mixed();
    let pages: Vec<&Page> = mixed.iter().filter(|page| !is_same_filled(page)).collect();
    ensure!(!pages.is_empty(), "there are no pages");
    let mut one = None;
    for count in CLIENTS {
        let measured = measure(count, &pages)?;
        match &one {
            None => one = Some(measured),
            Some(one) => show(count, &measured, one, report),
        }
    }
    Ok(())
}

fn show(count: usize, measured: &Measured, one: &Measured, report: &mut Report) {
    let of = |what: &str| format!("{count} clients: {what}");
    for ((what, value, unit), (_, other, _)) in measured.rows().into_iter().zip(one.rows()) {
        report.against(of(what), value, unit, "one client", other);
    }
    report.metric(of("memory of a client with 16 pages"), measured.client, "B");
}

impl Measured {
    /// What is shown beside one client: names, values and their units.
    fn rows(&self) -> [(&'static str, f64, &'static str); 8] {
        [
            ("put, median", self.put.median(), "us"),
            ("get, median", self.get.median(), "us"),
            ("put when memory is full, median", self.short.median(), "us"),
            ("put when memory is full, p99", self.short.p99(), "us"),
            ("look of the background thread", self.look.median(), "us"),
            ("statistics", self.stats.median(), "us"),
            (
                "puts refused when memory is full",
                self.refused * 100.0,
                "%",
            ),
            ("bytes held for a page", self.held, "B"),
        ]
    }
}

fn measure(count: usize, pages: &[&Page]) -> Result<Measured> {
    let before = resident()?;
    let world = World::new(count, 8 << 30)?;
    let (mut put, mut get) = (Samples::default(), Samples::default());
    let mut refused = world.put(0..count as u64 * RUN, pages, &mut Samples::default())?;
    let client = resident()?.saturating_sub(before) as f64 / count as f64;
    refused += world.put(0..PAGES, pages, &mut put)?;
    ensure!(
        refused == 0,
        "{refused} puts were refused though there is memory"
    );
    let held = world.store.held_bytes();
    let mut page = [0; PAGE_SIZE];
    for index in 0..PAGES {
        let pool = world.pool(index)?;
        let got = get.time(|| pool.get(&OBJECT, index, &mut page));
        ensure!(got == Get::Hit, "page {index}: {got:?}");
    }
    let (mut look, mut stats) = (Samples::default(), Samples::default());
    for _ in 0..LOOKS {
        look.time(|| {
            world.store.compress_some(256);
            world.store.clean_some();
            world.store.demote_some();
        });
        stats.time(|| world.store.stats());
    }
    drop(world);
    // Each client that has something has a segment of 16 KiB at least.
    let least = count as u64 * (32 << 10);
    let short_of_memory = World::new(count, (held / 2).max(2 * least))?;
    let mut short = Samples::default();
    let refused = short_of_memory.put(0..PAGES, pages, &mut short)?;
    Ok(Measured {
        put,
        get,
        short,
        refused: refused as f64 / PAGES as f64,
        look,
        stats,
        held: held as f64 / PAGES as f64,
        client,
    })
}

impl World {
    fn new(count: usize, limit: u64) -> Result<Self> {
        let store = Store::new(StoreConfig::with_limit(limit).with_deferred_limit(0))?;
        let clients = (0..count).map(|nth| {
            let config = ClientConfig::new(format!("guest{nth}"), u64::MAX).with_max_pools(1);
            let client = store.add_client(config)?;
            client.create_pool(0, PoolConfig::new(PoolKind::Ephemeral))?;
            let pool = client.pool(0).context("the store lost its pool")?;
            Ok((client, pool))
        });
        let clients = clients.collect::<Result<_>>()?;
        Ok(Self { store, clients })
    }

    /// Whose page it is: [`RUN`] in a row are of one client.
    fn pool(&self, index: u64) -> Result<&Pool> {
        let nth = usize::try_from(index / RUN)? % self.clients.len();
        let client = self.clients.get(nth).context("there are no clients")?;
        Ok(&client.1)
    }

    /// Puts these pages; how many were refused.
    fn put(
        &self,
        indices: std::ops::Range<u64>,
        pages: &[&Page],
        samples: &mut Samples,
    ) -> Result<u64> {
        let mut refused = 0;
        for (index, page) in indices.zip(pages.iter().cycle()) {
            let pool = self.pool(index)?;
            let put = samples.time(|| pool.put(&OBJECT, index, page));
            refused += u64::from(put.result.is_err());
        }
        Ok(refused)
    }
}

/// Bytes of memory that this process has.
fn resident() -> Result<u64> {
    let memory = Memory::of_process().context("the system does not say what this process has")?;
    Ok(memory.resident)
}
