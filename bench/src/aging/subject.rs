// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The store that is measured, through its public API. All that the benchmark knows
//! of the store is here.

use crate::aging::clock::ThreadClock;
use crate::aging::layout::Place;
use crate::aging::pattern::Codecs;
use crate::aging::pattern::Pattern;
use crate::aging::state::State;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::sync::mpsc;
use std::time::Duration;
use tmem_store::Client;
use tmem_store::ClientConfig;
use tmem_store::Compression;
use tmem_store::Compressor;
use tmem_store::Get;
use tmem_store::ObjectId;
use tmem_store::PAGE_SIZE;
use tmem_store::Page;
use tmem_store::Pool;
use tmem_store::PoolConfig;
use tmem_store::Recompression;
use tmem_store::Store;
use tmem_store::StoreConfig;
use tmem_store::StoreStats;

const OBJECT: ObjectId = [7; 24];

/// The least memory limit: that of the store's defaults.
const LEAST_LIMIT: u64 = 1 << 30;

/// Shorter than a store at rest is waited for, so that the benchmark ends.
const COLD_AFTER: Duration = Duration::from_millis(300);

/// A store with its background thread, and pools as a pattern wants them.
pub(super) struct Subject {
    store: Store,
    /// The pools of each client.
    pools: Vec<Vec<Pool>>,
    clock: ThreadClock,
    _background: Compressor,
    _clients: Vec<Client>,
}

/// What the store's cleaner has moved.
fn moved_bytes(stats: &StoreStats) -> Option<u64> {
    Some(stats.moved_bytes)
}

impl Subject {
    /// A store as the daemon has it, with more memory than `slots` pages need.
    pub(super) fn new(pattern: &Pattern, codecs: Codecs, slots: usize) -> Result<Self> {
        let limit = LEAST_LIMIT.max((slots * PAGE_SIZE * 2) as u64);
        let store = Store::new(StoreConfig::with_limit(limit))?;
        store.set_recompression(Recompression {
            after: COLD_AFTER,
            cpu_percent: 100,
        });
        let (sender, receiver) = mpsc::channel();
        let background = store.start_compressor_with(move || {
            // The other side waits for it.
            let _ = sender.send(ThreadClock::of_this_thread());
        })?;
        let clock = receiver.recv().context("the background thread is gone")?;
        let mut clients = Vec::new();
        let mut pools = Vec::new();
        for nth in 0..pattern.clients {
            let client = store.add_client(
                ClientConfig::new(format!("client {nth}"), limit)
                    .with_max_pools(u32::try_from(pattern.pools.len())?),
            )?;
            client.set_compression(match codecs {
                Codecs::Lz4 => Compression::Lz4,
                Codecs::Cold => Compression::Auto,
            });
            pools.push(create_pools(&client, pattern)?);
            clients.push(client);
        }
        Ok(Self {
            store,
            pools,
            clock,
            _background: background,
            _clients: clients,
        })
    }

    fn pool(&self, place: Place) -> Result<&Pool> {
        let pool = self.pools.get(place.client);
        let pool = pool.and_then(|pools| pools.get(place.pool));
        pool.with_context(|| format!("no pool for {place:?}"))
    }

    pub(super) fn put(&self, place: Place, page: &Page) -> Result<()> {
        let put = self.pool(place)?.put(&OBJECT, place.index, page);
        ensure!(put.result.is_ok(), "the store refused {place:?}: {put:?}");
        Ok(())
    }

    pub(super) fn free(&self, place: Place) -> Result<()> {
        let freed = self.pool(place)?.flush(&OBJECT, place.index, 1);
        ensure!(freed == 1, "the store had no page at {place:?}");
        Ok(())
    }

    /// Fails unless the page at `place` is `page`.
    pub(super) fn check(&self, place: Place, page: &Page) -> Result<()> {
        let mut found = [0; PAGE_SIZE];
        match self.pool(place)?.get(&OBJECT, place.index, &mut found) {
            Get::Hit if found == *page => Ok(()),
            Get::Hit => bail!("the store gave another page back for {place:?}"),
            miss => bail!("the store did not give {place:?} back: {miss:?}"),
        }
    }

    pub(super) fn state(&self) -> State {
        let stats = self.store.stats();
        State {
            pages: stats.persistent_pages + stats.ephemeral_pages,
            held_bytes: stats.held_bytes,
            mapped_bytes: stats.mapped_bytes,
            deferred_pages: stats.deferred_pages,
            moved_bytes: moved_bytes(&stats),
            background_cpu: self.clock.elapsed(),
        }
    }
}

fn create_pools(client: &Client, pattern: &Pattern) -> Result<Vec<Pool>> {
    let mut pools = Vec::new();
    for (id, (_, kind)) in (0..).zip(pattern.pools) {
        let config = PoolConfig::new(*kind);
        client.create_pool(id, config)?;
        pools.push(client.pool(id).context("the store lost a pool")?);
    }
    Ok(pools)
}
