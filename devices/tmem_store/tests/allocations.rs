// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the store takes from the allocator: nothing once warm, and little for
//! bookkeeping.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use common::*;
use tmem_store::{PAGE_SIZE, PoolKind, Recompression, Store, StoreConfig};

/// Counts per thread, so that tests do not disturb each other.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(allocations: u64, bytes: i64) {
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
    LIVE_BYTES.set(LIVE_BYTES.get() + bytes);
}

// SAFETY: every call is passed on to the system's allocator as it is; counting
// touches thread-locals without destructors only, which never allocate.
#[expect(unsafe_code, reason = "an allocator that counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size().cast_signed() as i64);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size().cast_signed() as i64));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const TEXTURES: [Texture; 6] = [
    Texture::Digits,
    Texture::Same,
    Texture::Sixteenths(1),
    HALF,
    Texture::Sixteenths(11),
    RAW,
];

/// A store that compresses at once, and stores that do it later: in the same
/// thread, or when they have to.
fn stores() -> [(Store, bool); 3] {
    [(0, false), (8 * MIB, true), (8 * MIB, false)].map(|(deferred_limit, later)| {
        let memory_limit = 64 * MIB;
        let store =
            Store::new(StoreConfig::with_limit(memory_limit).with_deferred_limit(deferred_limit));
        let store = store.unwrap();
        store.set_recompression(Recompression {
            after: Duration::ZERO,
            cpu_percent: 100,
        });
        (store, later)
    })
}

#[test]
fn warm_store_does_not_allocate() {
    for (store, later) in stores() {
        warm_up_and_count(&store, later);
    }
}

fn warm_up_and_count(store: &Store, later: bool) {
    let client = client(store, 64 * MIB);
    for kind in [PoolKind::Persistent, PoolKind::Ephemeral] {
        let pool = pool(&client, kind as u32, kind);
        let texture = |index: u64| TEXTURES[index as usize % TEXTURES.len()];
        let work = || {
            let mut buffer = [0; PAGE_SIZE];
            for index in 0..2048 {
                let put = pool.put(&OBJECT, index, &page(index, texture(index)));
                assert_eq!(put.result, Ok(()));
                let _ = pool.get(&OBJECT, index, &mut buffer);
                let _ = pool.get(&OBJECT, index + 4096, &mut buffer);
            }
            pool.put_run(&OBJECT, 0, 64, &mut |_, _| true, &mut |_, _| ());
            pool.get_run(&OBJECT, 0, 64, &mut |_, _| ());
            // Pages come and go while others stay.
            for index in (0..2048).step_by(3) {
                pool.flush(&OBJECT, index, 1);
            }
            pool.flush(&OBJECT, 1000, 500);
            while later && store.compress_some(64) > 0 {}
            while store.recompress_some() > 0 {}
        };
        work();
        work();
        let before = ALLOCATIONS.get();
        work();
        assert_eq!(ALLOCATIONS.get() - before, 0, "{kind:?}");
    }
}

#[test]
fn eviction_does_not_allocate() {
    for (store, _) in stores() {
        evict_and_count(&store);
    }
}

fn evict_and_count(store: &Store) {
    let client = client(store, 4 * MIB);
    let pool = pool(&client, 0, PoolKind::Ephemeral);
    let mut index = 0;
    let mut work = || {
        for _ in 0..3000 {
            pool.put(&OBJECT, index % (1 << 14), &page(index, RAW));
            index += 1;
        }
    };
    for _ in 0..12 {
        work();
    }
    let before = ALLOCATIONS.get();
    work();
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(client.stats().evicted_pages > 10_000);
}

/// Bytes in a segment, and of its header and the name of one object.
const SEGMENT: u64 = 128 * KIB;
const OF_SEGMENT: f64 = 40.0 + 40.0;

/// Bytes of an entry's header.
const OF_ENTRY: f64 = 16.0;

/// Fills a pool with what `put` puts, and returns the bytes of bookkeeping per
/// page: what the allocator has, which but for the tables of segments is also what
/// the client pays; and the headers of entries and segments in page memory.
fn bookkeeping(limit: u64, fill: impl FnOnce(&tmem_store::Pool) -> u64) -> f64 {
    let store = store(limit);
    let client = client(&store, limit);
    let before = LIVE_BYTES.get();
    let pool = pool(&client, 0, PoolKind::Persistent);
    let pages = fill(&pool);
    let heap = (LIVE_BYTES.get() - before) as f64;
    assert_eq!(client.stats().persistent_pages, pages);
    let paid = (client.stats().held_bytes - store.stats().mapped_bytes) as f64;
    // Tables of segments and what a thread needs to compress are paid by nobody.
    assert!((heap - paid).abs() < heap * 0.02 + 64e3, "{heap} {paid}");
    let segments = (store.stats().mapped_bytes / SEGMENT) as f64;
    drop((pool, client));
    (heap + segments * OF_SEGMENT) / pages as f64 + OF_ENTRY
}

#[test]
fn a_million_pages_of_a_swap_disk_cost_at_most_36_bytes_each() {
    let per_page = bookkeeping(1 << 30, |pool| {
        let mut tiny = [0; PAGE_SIZE];
        for index in 0_u64..1 << 20 {
            tiny[..8].copy_from_slice(&index.to_le_bytes());
            assert_eq!(pool.put(&OBJECT, index, &tiny), ACCEPTED);
        }
        1 << 20
    });
    println!("swap, 1048576 well compressed pages: {per_page:.1} bytes each");
    assert!(per_page <= 36.0, "{per_page} bytes");
}

#[test]
fn raw_pages_of_a_swap_disk_cost_at_most_36_bytes_each() {
    // Most segments per page that there can be.
    let per_page = bookkeeping(256 * MIB, |pool| {
        for index in 0..1 << 15 {
            assert_eq!(pool.put(&OBJECT, index, &page(index, RAW)), ACCEPTED);
        }
        1 << 15
    });
    println!("swap, 32768 raw pages: {per_page:.1} bytes each");
    assert!(per_page <= 36.0, "{per_page} bytes");
}

#[test]
fn files_and_sparse_pages_pay_more() {
    let files = bookkeeping(256 * MIB, |pool| {
        let (mut pages, mut random) = (0, 1_u64);
        for number in 0..5000 {
            // Sizes from 1 to 256 pages, small ones as common as large ones.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let size = 1 << (random >> 60 & 7);
            let size = size + (random >> 33) % size;
            for index in 0..size {
                pool.put(&object(number), index, &page(index, Texture::Same));
            }
            pages += size;
        }
        pages
    });
    println!("5000 files of 1 to 255 pages: {files:.1} bytes a page");
    assert!(files <= 36.0, "{files} bytes");
    let sparse = bookkeeping(256 * MIB, |pool| {
        for index in 0..50_000 {
            pool.put(&OBJECT, index << 20, &page(index, Texture::Same));
        }
        50_000
    });
    println!("one object, one page in a million: {sparse:.1} bytes a page");
    let hostile = bookkeeping(256 * MIB, |pool| {
        for number in 0..50_000 {
            pool.put(&object(number), 0, &page(number, Texture::Same));
        }
        50_000
    });
    println!("one page an object: {hostile:.1} bytes a page");
    assert!(sparse <= 512.0 && hostile <= 512.0);
}
