// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages that are compressed later than they are put: what it must not change.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use common::*;
use tmem_store::{PoolKind, Store, StoreConfig};

/// Page memory that may be held for what is at the ends of a client's log.
const ENDS: u64 = 128 * KIB;

fn store_that_defers(memory_limit: u64, deferred_limit: u64) -> Store {
    Store::new(StoreConfig::with_limit(memory_limit).with_deferred_limit(deferred_limit)).unwrap()
}

/// The same stores, but that one compresses at once.
fn pair(memory_limit: u64) -> [Store; 2] {
    [0, memory_limit].map(|deferred| store_that_defers(memory_limit, deferred))
}

fn compress_all(store: &Store) {
    while store.compress_some(64) > 0 {}
    assert_eq!(store.stats().deferred_pages, 0);
}

/// Every compressibility, in an order that mixes them.
fn mixed(index: u64) -> Texture {
    Texture::Sixteenths((index * 7 % 16 + 1) as u8)
}

#[test]
fn page_waits_until_it_is_compressed_and_is_found_before_and_after() {
    let store = store_that_defers(64 * MIB, 8 * MIB);
    let client = client(&store, 64 * MIB);
    for kind in [PoolKind::Persistent, PoolKind::Ephemeral] {
        let pool = pool(&client, kind as u32, kind);
        for index in 0..200 {
            assert_eq!(
                pool.put(&OBJECT, index, &page(index, mixed(index))),
                ACCEPTED
            );
        }
        assert_eq!(client.stats().deferred_pages, 200);
        let check = || {
            for index in 0..200 {
                let found = get(&pool, &OBJECT, index);
                assert_eq!(found, Some(Box::new(page(index, mixed(index)))));
            }
        };
        check();
        assert_eq!(store.compress_some(150), 150);
        assert_eq!(client.stats().deferred_pages, 50);
        check();
        compress_all(&store);
        check();
        assert_eq!(pool.flush_object(&OBJECT), 200);
    }
    let stats = client.stats();
    assert_eq!(stats.compressed_deferred_pages, 400);
    assert_eq!(stats.compressed_in_line_pages, 0);
}

#[test]
fn no_more_pages_wait_than_the_limit_says() {
    let store = store_that_defers(64 * MIB, MIB);
    let client = client(&store, 64 * MIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    for index in 0..1000 {
        assert_eq!(pool.put(&OBJECT, index, &page(index, HALF)), ACCEPTED);
    }
    let stats = client.stats();
    assert_eq!(stats.deferred_pages, 256);
    assert_eq!(stats.compressed_in_line_pages, 744);
}

#[test]
fn what_is_compressed_later_holds_what_compressed_at_once_holds() {
    let held = pair(256 * MIB).map(|store| {
        let client = client(&store, 256 * MIB);
        let pool = pool(&client, 0, PoolKind::Persistent);
        for index in 0..6000 {
            let put = pool.put(&OBJECT, index, &page(index, mixed(index)));
            assert_eq!(put, ACCEPTED);
        }
        compress_all(&store);
        let before = (client.stats().held_bytes, pool.held_bytes());
        for index in (0..6000).step_by(5) {
            pool.put(&OBJECT, index, &page(index + 1, mixed(index + 1)));
            pool.flush(&OBJECT, index + 1, 1);
        }
        compress_all(&store);
        (before, (client.stats().held_bytes, pool.held_bytes()))
    });
    let [at_once, later] = held;
    println!("bytes held: {at_once:?} at once, {later:?} later");
    // The pages' slots are the same to the byte.
    assert_eq!((at_once.0.1, at_once.1.1), (later.0.1, later.1.1));
    // The log may end in a segment of which more or less is used.
    assert!(at_once.0.0.abs_diff(later.0.0) <= ENDS);
    assert!(at_once.1.0.abs_diff(later.1.0) <= ENDS);
}

/// Fills a pool of each store with the same pages; how many are accepted.
fn fill_both(quota: u64, pool_quota: Option<u64>, limit: u64, kind: PoolKind) -> [u64; 2] {
    pair(limit).map(|store| {
        let client = client(&store, quota);
        let pool = pool_with_quota(&client, 0, kind, pool_quota);
        let mut accepted = 0;
        // Beyond the first refusal: smaller pages still fit.
        for index in 0..3 * limit.min(quota) / 4096 {
            let put = pool.put(&OBJECT, index, &page(index, mixed(index)));
            accepted += u64::from(put.result.is_ok());
        }
        assert!(client.stats().held_bytes <= quota);
        match kind {
            PoolKind::Persistent => accepted,
            PoolKind::Ephemeral => client.stats().ephemeral_pages,
        }
    })
}

#[test]
fn waiting_never_refuses_or_evicts_what_compressing_at_once_accepts() {
    for kind in [PoolKind::Persistent, PoolKind::Ephemeral] {
        for (quota, pool_quota, limit) in [
            (3 * MIB, None, 64 * MIB),
            (5 * MIB, None, 64 * MIB),
            (64 * MIB, None, 4 * MIB),
            (64 * MIB, None, 7 * MIB),
            (32 * MIB, Some(2 * MIB), 64 * MIB),
        ] {
            let [at_once, later] = fill_both(quota, pool_quota, limit, kind);
            // Slots are found in another order, which a few pages may feel.
            let slack = ENDS / 4096;
            assert!(
                later + slack >= at_once,
                "{kind:?} {quota} {pool_quota:?} {limit}: {at_once} pages at once, {later} later"
            );
        }
    }
}

#[test]
fn no_put_is_refused_while_pages_wait() {
    for (quota, pool_quota, limit) in [
        (4 * MIB, None, 64 * MIB),
        (64 * MIB, None, 4 * MIB),
        (32 * MIB, Some(2 * MIB), 64 * MIB),
    ] {
        let store = store_that_defers(limit, limit);
        let clients = [client(&store, quota), client(&store, quota)];
        let neighbour = pool(&clients[1], 0, PoolKind::Persistent);
        for index in 0..200 {
            assert_eq!(neighbour.put(&OBJECT, index, &page(index, HALF)), ACCEPTED);
        }
        let bounded = pool_with_quota(&clients[0], 0, PoolKind::Persistent, pool_quota);
        fill(&bounded, &OBJECT, HALF);
        assert_eq!(clients[0].stats().deferred_pages, 0);
        if limit < quota {
            assert_eq!(store.stats().deferred_pages, 0);
        }
        // All that it holds is compressed.
        assert_eq!(clients[0].stats().raw_pages, 0);
    }
}

#[test]
fn waiting_pages_are_compressed_before_cached_ones_are_evicted() {
    let store = store_that_defers(64 * MIB, 64 * MIB);
    let client = client(&store, 8 * MIB);
    let cache = pool(&client, 0, PoolKind::Ephemeral);
    let swap = pool(&client, 1, PoolKind::Persistent);
    for index in 0..500 {
        assert_eq!(cache.put(&OBJECT, index, &page(index, HALF)), ACCEPTED);
    }
    // With all of these as they are, there would be no room for the cache.
    for index in 0..2000 {
        let put = swap.put(&OBJECT, index, &page(index, Texture::Sixteenths(4)));
        assert_eq!(put, ACCEPTED);
    }
    assert_eq!(client.stats().evicted_pages, 0);
    assert!(client.stats().compressed_deferred_pages > 0);
}

#[test]
fn lowered_quota_compresses_before_it_evicts() {
    let store = store_that_defers(64 * MIB, 64 * MIB);
    let client = client(&store, 64 * MIB);
    let cache = pool(&client, 0, PoolKind::Ephemeral);
    for index in 0..1000 {
        let put = cache.put(&OBJECT, index, &page(index, Texture::Sixteenths(4)));
        assert_eq!(put, ACCEPTED);
    }
    assert!(client.stats().held_bytes > 3 * MIB);
    client.set_quota(2 * MIB);
    assert!(client.stats().held_bytes < 2 * MIB);
    assert_eq!(client.stats().evicted_pages, 0);
    assert!(!client.is_full());
}

#[test]
fn compressor_works_until_it_is_dropped() {
    let store = store_that_defers(64 * MIB, 64 * MIB);
    let client = client(&store, 64 * MIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    let put = |range: std::ops::Range<u64>| {
        for index in range {
            assert_eq!(pool.put(&OBJECT, index, &page(index, HALF)), ACCEPTED);
        }
    };
    for round in 0..20 {
        let compressor = store.start_compressor().unwrap();
        // Enough that it is woken, whether it sleeps already or not.
        put(round * 200..(round + 1) * 200);
        while store.stats().deferred_pages >= 64 {
            std::thread::yield_now();
        }
        drop(compressor);
    }
    compress_all(&store);
    put(4000..4200);
    assert_eq!(store.stats().deferred_pages, 200);
}
