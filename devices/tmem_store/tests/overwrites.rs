// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Puts that keep the older page if they are refused: what a disk needs, whose blocks must be
//! old or new, but never gone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use common::*;
use tmem_store::{Pool, PoolKind, Refused};

/// What may be held beyond the quota: what the cleaner moves pages to.
const BEYOND: u64 = 128 * KIB;

/// Seeds of the second and third content of a page.
const SECOND: u64 = 1 << 20;

/// As [`fill`], with pages that keep older ones.
fn fill_keeping(pool: &Pool, texture: Texture) -> (u64, Refused) {
    let mut puts = (0..).map(|index| {
        let put = pool.put_or_keep(&OBJECT, index, &page(index, texture));
        put.result.err().map(|why| (index, why))
    });
    puts.find_map(|refusal| refusal).unwrap()
}

#[test]
fn every_page_can_be_overwritten_at_the_quota() {
    for texture in [RAW, HALF, Texture::Digits] {
        let store = store(16 * MIB);
        let client = client(&store, 2 * MIB);
        let pool = pool(&client, 0, PoolKind::Persistent);
        let (count, why) = fill_keeping(&pool, texture);
        assert_eq!(why, Refused::Quota);
        for round in 1..4 {
            for index in 0..count {
                let page = page(index + round * SECOND, texture);
                assert_eq!(pool.put_or_keep(&OBJECT, index, &page), REPLACED);
                assert!(client.stats().held_bytes <= 2 * MIB + BEYOND);
            }
        }
        for index in 0..count {
            let found = get(&pool, &OBJECT, index);
            assert_eq!(found, Some(Box::new(page(index + 3 * SECOND, texture))));
        }
        assert_eq!(client.stats().persistent_pages, count);
        if mode() != Mode::Background {
            // A new page has no room all the same.
            let put = pool.put_or_keep(&OBJECT, count, &page(count, RAW));
            assert_eq!(put, refused(Refused::Quota));
        }
    }
}

#[test]
fn a_refused_page_leaves_the_older_one() {
    let limits = [
        (16 * MIB, MIB, Refused::Quota),
        (MIB, 16 * MIB, Refused::Memory),
    ];
    for (limit, quota, expected) in limits {
        let store = store(limit);
        let client = client(&store, quota);
        let pool = pool(&client, 0, PoolKind::Persistent);
        let (count, why) = fill_keeping(&pool, Texture::Sixteenths(2));
        assert_eq!(why, expected);
        // All of them larger: there is room for some at most.
        let mut refusals = 0;
        for index in 0..count {
            let put = pool.put_or_keep(&OBJECT, index, &page(index + SECOND, RAW));
            let (seed, texture) = match put.result {
                Ok(()) => (index + SECOND, RAW),
                Err(why) => {
                    assert_eq!((why, put.prior_removed), (expected, false));
                    refusals += 1;
                    (index, Texture::Sixteenths(2))
                }
            };
            let found = get(&pool, &OBJECT, index);
            assert_eq!(found, Some(Box::new(page(seed, texture))));
        }
        // With the background thread, pages that it still compresses may end the filling early.
        if mode() != Mode::Background {
            assert!(refusals > count / 2, "{refusals} of {count}");
        }
        assert_eq!(client.stats().persistent_pages, count);
        assert!(client.stats().held_bytes <= quota + BEYOND);
        // Where nothing is, nothing is kept.
        let put = pool.put_or_keep(&OBJECT, 1 << 40, &page(1, RAW));
        assert_eq!(put, refused(expected));
        assert_eq!(get(&pool, &OBJECT, 1 << 40), None);
    }
}

#[test]
fn a_frozen_client_overwrites_and_puts_nothing_new() {
    let store = store(4 * MIB);
    let client = client(&store, 2 * MIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    assert_eq!(pool.put_or_keep(&OBJECT, 0, &page(0, HALF)), ACCEPTED);
    client.set_frozen(true);
    assert_eq!(pool.put_or_keep(&OBJECT, 0, &page(1, HALF)), REPLACED);
    let put = pool.put_or_keep(&OBJECT, 1, &page(1, HALF));
    assert_eq!(put, refused(Refused::Frozen));
    assert_eq!(get(&pool, &OBJECT, 0), Some(Box::new(page(1, HALF))));
}

/// At the quota a page is overwritten again and again, and its readers never miss it.
#[test]
fn a_page_is_found_all_the_while() {
    let store = store(16 * MIB);
    let client = client(&store, MIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    let (count, _) = fill_keeping(&pool, HALF);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                for index in 0..count {
                    let found = get(&pool, &OBJECT, index).map(|page| page[4088..].to_vec());
                    let seed = found.map(|seed| u64::from_le_bytes(seed.try_into().unwrap()));
                    assert_eq!(seed.map(|seed| seed % SECOND), Some(index));
                }
            }
        });
        let puts = (1..8).flat_map(|round| (0..count).map(move |index| (round, index)));
        let refusals = puts.filter(|(round, index)| {
            let put = pool.put_or_keep(&OBJECT, *index, &page(index + round * SECOND, HALF));
            put != REPLACED
        });
        let refusals = refusals.count() as u64;
        done.store(true, Relaxed);
        // Memory that somebody reads comes back later: but it is waited for a little.
        assert!(
            refusals < 7 * count / 100,
            "{refusals} of {} were refused",
            7 * count
        );
    });
}
