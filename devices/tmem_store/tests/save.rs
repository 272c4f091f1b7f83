// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a client has goes elsewhere and back, and nothing that is not as it was is taken for a page.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::MIB;
use std::collections::BTreeMap;
use tmem_store::{
    Client, ClientConfig, Get, ObjectId, PAGE_SIZE, Page, PoolConfig, PoolKind, Refused,
    RestoreError, Restored, SAVED_SEGMENT, SpillArea, Store, StoreConfig,
};

type Handle = (u32, ObjectId, u64);

/// Pages by their handles.
type Pages = BTreeMap<Handle, Page>;

const POOLS: [(u32, PoolKind); 3] = [
    (0, PoolKind::Persistent),
    (3, PoolKind::Ephemeral),
    (5, PoolKind::Persistent),
];

fn client(store: &Store, quota: u64) -> Client {
    let client = store.add_client(ClientConfig::new("guest", quota)).unwrap();
    for (id, kind) in POOLS {
        client.create_pool(id, PoolConfig::new(kind)).unwrap();
    }
    client
}

fn store(config: StoreConfig) -> Store {
    Store::new(config).unwrap()
}

/// A page that says which it is, of one of four kinds: as it is, text, one word, zeros.
fn page(nth: u64) -> Page {
    let mut page = [0; PAGE_SIZE];
    let mut seed = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for (at, word) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        *word = match nth % 4 {
            0 => seed,
            1 if at % 5 == 0 => seed,
            1 | 2 => nth,
            _ => 0,
        }
        .to_le_bytes();
    }
    page
}

fn object(nth: u64) -> ObjectId {
    let mut object = [0; 24];
    object[..8].copy_from_slice(&(nth % 37).to_le_bytes());
    object
}

fn fill(client: &Client, count: u64) -> Pages {
    let mut pages = Pages::new();
    for nth in 0..count {
        let (pool, _) = POOLS[usize::try_from(nth % 3).unwrap()];
        let handle = (pool, object(nth), nth / 111);
        let put = client
            .pool(pool)
            .unwrap()
            .put(&handle.1, handle.2, &page(nth));
        match put.result {
            Ok(()) => drop(pages.insert(handle, page(nth))),
            // Where memory is full of others.
            Err(_) => assert_eq!(pool, 3, "{nth}"),
        }
    }
    pages
}

fn check(client: &Client, pages: &Pages) {
    let mut got = [0; PAGE_SIZE];
    for ((pool, object, index), page) in pages {
        let get = client.pool(*pool).unwrap().get(object, *index, &mut got);
        assert_eq!(get, Get::Hit, "{pool} {index}");
        assert!(got == *page, "{pool} {index}");
    }
}

fn count(client: &Client) -> u64 {
    let stats = client.stats();
    stats.persistent_pages + stats.ephemeral_pages
}

fn restore(client: &Client, segments: &[Vec<u8>]) -> Result<Restored, RestoreError> {
    let mut all = Restored::default();
    for (segment, number) in segments.iter().zip(1..) {
        let restored = client.restore(segment, number)?;
        all.pages += restored.pages;
        all.dropped += restored.dropped;
    }
    Ok(all)
}

fn roomy() -> StoreConfig {
    StoreConfig::with_limit(256 * MIB)
}

/// Whether pages are compressed when they are put or wait for it, and in memory or not.
#[test]
fn what_a_client_has_is_what_another_gets() {
    let dir = tempfile::tempdir().unwrap();
    let area = SpillArea::open(&dir.path().join("spill"), Some(128 * MIB)).unwrap();
    for config in [
        roomy().with_deferred_limit(0),
        roomy(),
        StoreConfig::with_limit(8 * MIB)
            .with_deferred_limit(0)
            .with_spill(area),
    ] {
        let from = store(config);
        let one = client(&from, 1 << 30);
        let mut pages = fill(&one, 12_000);
        // Some are gone again, and some were evicted where memory is short.
        for nth in (0..12_000).step_by(5) {
            let (pool, _) = POOLS[nth % 3];
            let nth = nth as u64;
            one.pool(pool).unwrap().flush(&object(nth), nth / 111, 1);
            pages.remove(&(pool, object(nth), nth / 111));
        }
        let mut got = [0; PAGE_SIZE];
        pages.retain(|(pool, object, index), _| {
            let get = one.pool(*pool).unwrap().get(object, *index, &mut got);
            assert!(get == Get::Hit || *pool == 3);
            get == Get::Hit
        });
        let mut save = one.save();
        let segments: Vec<_> = save.by_ref().collect();
        assert_eq!((save.pages(), save.lost()), (pages.len() as u64, 0));
        assert!(
            segments
                .iter()
                .all(|segment| segment.len() <= SAVED_SEGMENT)
        );
        let to = store(roomy());
        let other = client(&to, 1 << 30);
        let restored = restore(&other, &segments).unwrap();
        assert_eq!(restored.pages, pages.len() as u64);
        assert_eq!(count(&other), pages.len() as u64);
        check(&other, &pages);
        check(&one, &pages);
        // Each lives on its own.
        drop(one);
        check(&other, &pages);
    }
}

#[test]
fn nothing_is_saved_of_a_client_that_has_nothing() {
    let store = store(roomy());
    assert_eq!(client(&store, MIB).save().count(), 0);
}

/// Each bit of a segment counts: a change of it is found, and so is a segment too few.
#[test]
fn a_flipped_bit_anywhere_is_found() {
    let from = store(roomy().with_deferred_limit(0));
    let one = client(&from, 1 << 30);
    fill(&one, 40);
    let segments: Vec<_> = one.save().collect();
    assert_eq!(segments.len(), 1);
    let segment = &segments[0];
    let other = client(&from, 1 << 30);
    for at in 0..segment.len() {
        let mut changed = segment.clone();
        changed[at] ^= 1 << (at % 8);
        let restored = other.restore(&changed, 1);
        assert_eq!(restored, Err(RestoreError::Damaged), "at {at}");
    }
    for short in [0, 1, 39, 40, segment.len() / 2, segment.len() - 8] {
        let restored = other.restore(&segment[..short], 1);
        // It may end after an entry: how many there are is for others to say.
        assert_ne!(restored.map(|it| it.pages), Ok(40), "{short}");
    }
    let longer = [segment.as_slice(), &[0; 8]].concat();
    assert_eq!(other.restore(&longer, 1), Err(RestoreError::Damaged));
    assert_eq!(other.restore(segment, 2), Err(RestoreError::Damaged));
}

#[test]
fn segments_in_another_order_are_refused() {
    let from = store(roomy());
    let one = client(&from, 1 << 30);
    fill(&one, 2_000);
    let mut segments: Vec<_> = one.save().collect();
    segments.swap(0, 1);
    let other = client(&from, 1 << 30);
    assert_eq!(restore(&other, &segments), Err(RestoreError::Damaged));
}

#[test]
fn pages_without_a_pool_or_room_are_refused() {
    let from = store(roomy());
    let one = client(&from, 1 << 30);
    let pages = fill(&one, 4_000);
    let segments: Vec<_> = one.save().collect();

    let other = client(&from, 1 << 30);
    other.destroy_pool(5);
    let no_pool = Err(RestoreError::NoPool { pool: 5 });
    assert_eq!(restore(&other, &segments), no_pool);
    // Of another kind it is another pool.
    other
        .create_pool(5, PoolConfig::new(PoolKind::Ephemeral))
        .unwrap();
    assert_eq!(restore(&other, &segments), no_pool);

    let poor = client(&from, MIB);
    let refused = Err(RestoreError::Refused(Refused::Quota));
    assert_eq!(restore(&poor, &segments), refused);
    assert!(poor.stats().held_bytes <= MIB);

    // What the guest has on its own disk may go.
    let small = client(&from, 1 << 30);
    small.set_ephemeral_quota(Some(MIB / 2));
    restore(&small, &segments).unwrap();
    let persistent = pages.keys().filter(|(pool, _, _)| *pool != 3).count() as u64;
    assert_eq!(small.stats().persistent_pages, persistent);
    assert!(small.stats().ephemeral_held_bytes <= MIB / 2);
}
