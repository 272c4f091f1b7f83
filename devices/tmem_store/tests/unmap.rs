// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A store whose page memory is taken out of the page tables goes on.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use common::*;
use tmem_store::{Pool, PoolKind, Store};

const PAGES: u64 = 2000;

/// KiB of page memory that the process has mapped.
fn mapped(store: &Store) -> u64 {
    let inode = rustix::fs::fstat(store.page_memory()).unwrap().st_ino;
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = maps.lines();
    let is_it = |line: &str| line.split_whitespace().nth(4) == Some(&inode.to_string());
    assert!(lines.any(is_it), "it is not mapped");
    let resident = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
    let number = resident.split_whitespace().next().unwrap();
    number.parse().unwrap()
}

fn put(pool: &Pool, of: impl Fn(u64) -> u64) {
    for index in 0..PAGES {
        let page = page(of(index), RAW);
        assert!(pool.put(&OBJECT, index, &page).result.is_ok());
    }
}

fn check(pool: &Pool, of: impl Fn(u64) -> u64) {
    for index in 0..PAGES {
        let found = get(pool, &OBJECT, index).unwrap();
        assert!(*found == page(of(index), RAW), "page {index}");
    }
}

#[test]
fn nothing_is_mapped_afterwards_and_all_is_there() {
    let store = store(64 * MIB);
    let client = client(&store, 64 * MIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    put(&pool, |index| index);
    assert!(mapped(&store) >= PAGES * 4);
    store.unmap().unwrap();
    assert_eq!(mapped(&store), 0);
    let stats = store.stats();
    assert!(stats.mapped_bytes >= PAGES * 4096, "{stats:?}");
    check(&pool, |index| index);
}

#[test]
fn it_may_be_in_use_meanwhile() {
    let store = store(64 * MIB);
    let client = client(&store, 64 * MIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Relaxed) {
                store.unmap().unwrap();
            }
        });
        for round in 0..4 {
            put(&pool, |index| index + round);
            check(&pool, |index| index + round);
        }
        is_done.store(true, Relaxed);
    });
    assert_eq!(pool.flush_object(&OBJECT), PAGES);
}
