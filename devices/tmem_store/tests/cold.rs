// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages that are not used for long are recompressed; those that are used are not.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::time::{Duration, Instant};

use common::*;
use tmem_store::{Client, Compression, Pool, PoolKind, Recompression};

const PAGES: u64 = 1000;

fn filled(store: &TestStore, texture: Texture) -> (Client, Pool) {
    let client = client(store, 64 * MIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    for index in 0..PAGES {
        assert_eq!(pool.put(&OBJECT, index, &page(index, texture)), ACCEPTED);
    }
    (client, pool)
}

fn recompress(store: &TestStore) -> u64 {
    std::iter::from_fn(|| Some(store.recompress_some()).filter(|pages| *pages > 0)).sum()
}

fn check(pool: &Pool, indices: impl Iterator<Item = u64>, texture: Texture) {
    for index in indices {
        let found = get(pool, &OBJECT, index).unwrap();
        assert!(*found == page(index, texture), "page {index}");
    }
}

#[test]
fn cold_pages_take_less_and_come_back() {
    let store = store(64 * MIB);
    let (client, pool) = filled(&store, Texture::Digits);
    let (before, of_pool) = (client.stats(), pool.held_bytes());
    assert_eq!(before.zstd_pages, 0);
    assert_eq!(recompress(&store), PAGES);
    let after = client.stats();
    assert_eq!((after.zstd_pages, after.recompressed_pages), (PAGES, PAGES));
    assert_eq!(after.compressed_pages, PAGES);
    assert!(after.zstd_bytes < PAGES * 4096 / 2);
    assert!(after.held_bytes < before.held_bytes * 6 / 10, "{after:?}");
    assert!(pool.held_bytes() < of_pool * 6 / 10);
    assert_eq!(store.stats().zstd_pages, PAGES);
    check(&pool, 0..PAGES, Texture::Digits);
    assert_eq!(pool.flush_object(&OBJECT), PAGES);
    let stats = client.stats();
    assert_eq!((stats.zstd_pages, stats.zstd_bytes), (0, 0));
    let done = client.stats().recompression_microseconds;
    drop((pool, client));
    let stats = store.stats();
    assert_eq!((stats.held_bytes, stats.mapped_bytes), (0, 0));
    // What was done is not undone by the client's leaving.
    assert_eq!(stats.recompressed_pages, PAGES);
    assert_eq!(stats.recompression_microseconds, done);
}

#[test]
fn whose_codec_is_zstd_does_not_wait_until_pages_are_cold() {
    let store = store(64 * MIB);
    store.set_recompression(Recompression {
        after: Duration::from_secs(3600),
        ..Recompression::default()
    });
    let (client, pool) = filled(&store, Texture::Digits);
    assert_eq!(recompress(&store), 0);
    client.set_compression(Compression::Zstd);
    assert_eq!(recompress(&store), PAGES);
    assert_eq!(client.stats().zstd_pages, PAGES);
    check(&pool, 0..PAGES, Texture::Digits);
}

#[test]
fn pages_that_do_not_get_smaller_are_tried_once() {
    for texture in [RAW, HALF] {
        let store = store(64 * MIB);
        let (client, pool) = filled(&store, texture);
        let before = client.stats();
        assert_eq!(recompress(&store), PAGES);
        assert_eq!(recompress(&store), 0);
        let after = client.stats();
        assert_eq!(after.recompressed_pages, 0);
        assert_eq!(after.compressed_bytes, before.compressed_bytes);
        assert!(after.held_bytes <= before.held_bytes + 64 * KIB);
        // Neither are they tried again when they move: what is freed is cleaned.
        for index in (0..PAGES).filter(|index| index % 4 != 0) {
            pool.flush(&OBJECT, index, 1);
        }
        let _compressor = store.start_compressor().unwrap();
        until(|| client.stats().cleaned_segments > 0);
        assert_eq!(recompress(&store), 0);
        check(&pool, (0..PAGES).step_by(4), texture);
    }
}

#[test]
fn pages_that_were_got_are_spared() {
    let store = store(64 * MIB);
    let (client, pool) = filled(&store, Texture::Digits);
    check(&pool, (0..PAGES).step_by(2), Texture::Digits);
    store.recompress_some();
    let some = client.stats().zstd_pages;
    assert!(some > 0 && some < 30, "of a segment of 31 pages: {some}");
    // They were moved to a segment that is cold in its turn, unless they are got again.
    while client.stats().zstd_pages < PAGES {
        assert!(store.recompress_some() > 0);
    }
    check(&pool, 0..PAGES, Texture::Digits);
}

#[test]
fn page_that_is_got_twice_is_warm_again() {
    let store = store(64 * MIB);
    let (client, pool) = filled(&store, Texture::Digits);
    recompress(&store);
    let held = pool.held_bytes();
    check(&pool, 0..10, Texture::Digits);
    assert_eq!(client.stats().zstd_pages, PAGES);
    check(&pool, 0..10, Texture::Digits);
    assert_eq!(client.stats().zstd_pages, PAGES - 10);
    assert!(pool.held_bytes() > held);
    check(&pool, 0..10, Texture::Digits);
    pool.flush_object(&OBJECT);
    let stats = client.stats();
    assert_eq!(
        (stats.zstd_pages, stats.compressed_pages, stats.raw_pages),
        (0, 0, 0)
    );
}

#[test]
fn page_stays_cold_if_its_pool_has_no_room() {
    let store = store(64 * MIB);
    let client = client(&store, 64 * MIB);
    let quota = 20 * KIB;
    let pool = pool_with_quota(&client, 0, PoolKind::Persistent, Some(quota));
    let mut index = 0;
    // Each is made smaller before the next is put.
    while pool.put(&OBJECT, index, &page(index, Texture::Digits)) == ACCEPTED {
        recompress(&store);
        index += 1;
    }
    for _ in 0..3 {
        check(&pool, 0..index, Texture::Digits);
        assert!(pool.held_bytes() <= quota);
    }
    assert!(client.stats().zstd_pages > 0);
}

#[test]
fn young_pages_are_left_alone() {
    let store = store(64 * MIB);
    let recompression = Recompression {
        after: Duration::from_secs(3600),
        cpu_percent: 100,
    };
    store.set_recompression(recompression);
    assert_eq!(store.recompression(), recompression);
    let (client, _pool) = filled(&store, Texture::Digits);
    assert_eq!((recompress(&store), client.stats().zstd_pages), (0, 0));
    store.set_recompression(Recompression {
        after: Duration::ZERO,
        cpu_percent: 0,
    });
    assert_eq!(recompress(&store), 0);
}

#[test]
fn client_says_how_its_pages_are_compressed() {
    let store = store(64 * MIB);
    let client = client(&store, 64 * MIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    let mut at = 0;
    let mut put = |compression, texture| {
        client.set_compression(compression);
        assert_eq!(client.compression(), compression);
        at += 1;
        assert_eq!(pool.put(&OBJECT, at, &page(at, texture)), ACCEPTED);
        settle(&store);
        let looked = recompress(&store);
        let stats = client.stats();
        let kept = (stats.raw_pages, stats.compressed_pages, stats.zstd_pages);
        check(&pool, at..=at, texture);
        (looked, kept)
    };
    assert_eq!(put(Compression::None, HALF), (0, (1, 0, 0)));
    assert_eq!(put(Compression::Lz4, HALF), (0, (1, 1, 0)));
    assert_eq!(put(Compression::Lz4, Texture::Digits).0, 0);
    let (looked, (_, _, zstd)) = put(Compression::Auto, Texture::Digits);
    assert!(looked > 0 && zstd > 0);
    for compression in Compression::ALL {
        assert_eq!(Compression::parse(compression.name()), Ok(compression));
    }
    assert!(
        Compression::parse("gzip")
            .unwrap_err()
            .contains("auto, lz4, zstd or none")
    );
}

#[test]
fn cold_pages_are_recompressed_in_the_background() {
    let store = store(64 * MIB);
    store.set_recompression(Recompression {
        after: Duration::from_millis(10),
        cpu_percent: 50,
    });
    let _compressor = store.start_compressor().unwrap();
    let (client, pool) = filled(&store, Texture::Digits);
    until(|| client.stats().zstd_pages == PAGES);
    assert!(client.stats().recompression_microseconds > 0);
    check(&pool, 0..PAGES, Texture::Digits);
}

/// Less is dead than is worth being cleaned while pages come and go.
#[test]
fn client_at_rest_is_tidied() {
    let store = store(64 * MIB);
    store.set_recompression(Recompression {
        after: Duration::ZERO,
        cpu_percent: 100,
    });
    let client = client(&store, 64 * MIB);
    client.set_compression(Compression::Lz4);
    let pool = pool(&client, 0, PoolKind::Persistent);
    for index in 0..4000 {
        assert_eq!(pool.put(&OBJECT, index, &page(index, RAW)), ACCEPTED);
    }
    let dead = |index: &u64| index.is_multiple_of(40);
    for index in (0..4000).filter(dead) {
        assert_eq!(pool.flush(&OBJECT, index, 1), 1);
    }
    let before = client.stats();
    let _background = store.start_compressor().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.stats().held_bytes + 96 * KIB > before.held_bytes {
        assert!(Instant::now() < deadline, "{:?}", client.stats());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(client.stats().cleaned_segments > before.cleaned_segments);
    check(&pool, (0..4000).filter(|index| !dead(index)), RAW);
}
