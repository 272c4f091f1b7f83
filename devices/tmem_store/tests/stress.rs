// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Many threads, few pools: each thread verifies what it put, while others
//! put to the same blocks, memory runs out, pools and clients come and go.

#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use common::*;
use tmem_store::{
    Client, Get, PAGE_SIZE, Page, Pool, PoolConfig, PoolError, PoolKind, Put, Refused, Store,
};

const THREADS: u64 = 4;
const ROUNDS: u64 = 40_000;

/// A small generator: the test must be the same each time but for timing.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// The page that `thread` put under `index` the `version`th time: a get can
/// only return it to the right asker, at the right time.
fn stamped(thread: u64, index: u64, version: u64) -> Page {
    let textures = [Texture::Sixteenths(2), HALF, Texture::Sixteenths(10), RAW];
    page(
        index << 32 | version << 8 | thread,
        textures[(index ^ version) as usize % textures.len()],
    )
}

/// Works on the indexes that are `thread` modulo [`THREADS`]: of every block
/// each thread has its pages.
fn work(pool: &Pool, thread: u64) {
    let mut random = Random(thread + 1);
    let mut versions = HashMap::<u64, u64>::new();
    let mut buffer = [0; PAGE_SIZE];
    let persistent = pool.kind() == PoolKind::Persistent;
    for round in 0..ROUNDS {
        let index = random.below(600) * THREADS + thread;
        match random.below(8) {
            0..3 => {
                let put = pool.put(&OBJECT, index, &stamped(thread, index, round));
                match put {
                    Put {
                        result: Ok(()),
                        prior_removed,
                    } => {
                        let prior = versions.insert(index, round).is_some();
                        assert!(prior == prior_removed || !persistent);
                    }
                    Put {
                        result: Err(why),
                        prior_removed,
                    } => {
                        assert!(matches!(why, Refused::Quota | Refused::Memory), "{why:?}");
                        let prior = versions.remove(&index).is_some();
                        assert!(prior == prior_removed || !persistent);
                    }
                }
            }
            3..7 => match (pool.get(&OBJECT, index, &mut buffer), versions.get(&index)) {
                (Get::Hit, Some(version)) => {
                    assert!(buffer == stamped(thread, index, *version));
                }
                (Get::Miss, None) => {}
                (Get::Miss, Some(_)) => {
                    assert!(!persistent, "page {index} is gone");
                    versions.remove(&index);
                }
                other => panic!("page {index}: {other:?}"),
            },
            _ => {
                let removed = pool.flush(&OBJECT, index, 1);
                let there = versions.remove(&index).is_some();
                assert!(removed == u64::from(there) || !persistent && removed == 0);
            }
        }
    }
    for (index, version) in versions {
        match pool.get(&OBJECT, index, &mut buffer) {
            Get::Hit => assert!(buffer == stamped(thread, index, version)),
            other => assert!(!persistent, "page {index}: {other:?}"),
        }
    }
}

/// A new pool, unless there is no memory for it.
fn try_pool(client: &Client, id: u32, kind: PoolKind) -> Option<Pool> {
    match client.create_pool(id, PoolConfig::new(kind)) {
        Ok(_) => client.pool(id),
        Err(why) => {
            assert_eq!(why, PoolError::NoMemory);
            None
        }
    }
}

/// Pools that are destroyed while they are used, clients that come and go.
fn disturb(store: &Store, client: &Client, done: &AtomicBool) {
    let mut made = 0;
    while !done.load(Relaxed) {
        let guest = common::client(store, 2 * MIB);
        let pools = (
            try_pool(client, 7, PoolKind::Ephemeral),
            try_pool(&guest, 0, PoolKind::Persistent),
        );
        let (Some(pool), Some(other)) = pools else {
            client.destroy_pool(7);
            continue;
        };
        made += 1;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for index in 0..60 {
                    pool.put(&OBJECT, index, &page(index, HALF));
                    other.put(&OBJECT, index, &page(index, RAW));
                }
            });
            if made % 2 == 0 {
                client.destroy_pool(7);
                drop(guest);
            }
        });
        client.destroy_pool(7);
        let put = pool.put(&OBJECT, 0, &page(0, HALF));
        assert_eq!(put, refused(Refused::PoolGone));
    }
    assert!(made > 0);
}

#[test]
fn threads_get_what_they_put() {
    let store = store(8 * MIB);
    let clients = [client(&store, 5 * MIB), client(&store, 5 * MIB)];
    let pools = [
        pool(&clients[0], 0, PoolKind::Persistent),
        pool(&clients[1], 0, PoolKind::Ephemeral),
        pool(&clients[1], 1, PoolKind::Persistent),
    ];
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = pools
            .iter()
            .flat_map(|pool| (0..THREADS).map(move |thread| (pool, thread)))
            .map(|(pool, thread)| scope.spawn(move || work(pool, thread)))
            .collect();
        scope.spawn(|| disturb(&store, &clients[0], &done));
        scope.spawn(|| {
            while !done.load(Relaxed) {
                store.recompress_some();
            }
        });
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Relaxed);
        assert!(results.iter().all(Result::is_ok));
    });
    let held: u64 = clients.iter().map(|client| client.stats().held_bytes).sum();
    assert_eq!(store.stats().held_bytes, held);
    for client in &clients {
        client.destroy_pool(0);
        client.destroy_pool(1);
        assert_eq!(client.stats().held_bytes, 0);
        assert_eq!(client.stats().persistent_pages, 0);
        assert_eq!(client.stats().ephemeral_pages, 0);
    }
    let stats = store.stats();
    assert_eq!((stats.held_bytes, stats.mapped_bytes), (0, 0));
    assert_eq!(
        (
            stats.compressed_pages,
            stats.compressed_bytes,
            stats.raw_pages
        ),
        (0, 0, 0)
    );
}
