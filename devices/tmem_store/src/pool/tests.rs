// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use std::time::{Duration, Instant};

use crate::codec;
use crate::index::{Key, split};
use crate::tier::{Codec, Content, Payload, Temperature};
use crate::{
    Client, ClientConfig, Get, Lost, ObjectId, PAGE_SIZE, Page, Pool, PoolConfig, PoolKind, Store,
    StoreConfig,
};

const OBJECT: ObjectId = [1; 24];

fn client(deferred_limit: u64) -> Client {
    let store = Store::new(StoreConfig {
        deferred_limit,
        ..StoreConfig::default()
    })
    .expect("a store");
    let config = ClientConfig {
        name: String::new(),
        identity: None,
        quota: 1 << 24,
        max_pools: 1,
        weight: ClientConfig::WEIGHT,
    };
    store.add_client(config).expect("a client")
}

/// A page that compresses.
fn text() -> Page {
    let mut page = [b' '; PAGE_SIZE];
    for (nth, byte) in page.iter_mut().enumerate().step_by(9) {
        *byte = (nth / 7).to_le_bytes()[0];
    }
    page
}

/// Overwrites what is kept of a page.
fn damage(pool: &Pool, index: u64, with: u8) {
    let (block, nth) = split(index);
    let key = Key::new(&pool.pages().seed, &OBJECT, block);
    let owner = pool.pages().owner(&key, nth);
    pool.pages().change(key.shard(), |change| {
        let number = change.shard.prepare(&key, 0, &mut |_| false);
        let content = change.shard.vacate(&key, nth);
        let (Ok(number), Some(Content::Entry(entry))) = (number, content) else {
            panic!("the page is not kept in an entry");
        };
        let bytes = &vec![with; entry.len()];
        let codec = Codec::Lz4;
        let garbage = Payload { codec, bytes };
        let charge = |bytes| pool.pages().budget.charge(bytes);
        let damaged = pool
            .pages()
            .budget
            .append(Temperature::Warm, &owner, garbage, charge);
        pool.pages().budget.free_entry(entry);
        let damaged = damaged.expect("memory");
        let old = change.shard.put(number, nth, 0, Content::Entry(damaged));
        assert_eq!(old, None);
    });
}

#[test]
fn damaged_page_is_lost_until_it_is_replaced() {
    for with in [0, 0x0f, 0xf0, 0xff] {
        let client = client(0);
        let config = PoolConfig {
            kind: PoolKind::Persistent,
            quota: None,
        };
        client.create_pool(0, config).expect("a pool");
        let pool = client.pool(0).expect("the pool");
        for index in 0..3 {
            assert_eq!(pool.put(&OBJECT, index, &text()).result, Ok(()));
        }
        damage(&pool, 1, with);

        let mut buffer = [0; PAGE_SIZE];
        assert_eq!(pool.get(&OBJECT, 1, &mut buffer), Get::Lost);
        let mut found = Vec::new();
        pool.get_run(&OBJECT, 0, 4, &mut |_, page| {
            found.push(page.map(|page| page.copied()));
        });
        assert!(found == [Ok(Some(text())), Err(Lost), Ok(Some(text())), Ok(None)]);
        assert_eq!(client.stats().get_lost, 2);

        assert!(pool.put(&OBJECT, 1, &text()).prior_removed);
        assert_eq!(pool.get(&OBJECT, 1, &mut buffer), Get::Hit);
        damage(&pool, 1, with);
        assert_eq!(pool.take(&OBJECT, 1, &mut buffer), Get::Lost);
        assert_eq!(pool.get(&OBJECT, 1, &mut buffer), Get::Miss);
        assert_eq!(pool.flush_object(&OBJECT), 2);
    }
}

/// A pool of the only kind that keeps every page, and its client.
fn pool_that_defers() -> (Client, Pool) {
    let client = client(1 << 20);
    let config = PoolConfig {
        kind: PoolKind::Persistent,
        quota: None,
    };
    client.create_pool(0, config).expect("a pool");
    let pool = client.pool(0).expect("the pool");
    (client, pool)
}

/// A page that compresses and is different for each `number`.
fn numbered(number: u8) -> Page {
    let mut page = text();
    page[0] = number;
    page
}

/// Claims page 0, lets `meanwhile` happen while it would be compressed, and
/// keeps what became of it.
fn compress_while(pool: &Pool, meanwhile: impl FnOnce()) {
    let shard = Key::new(&pool.pages().seed, &OBJECT, 0).shard();
    let mut page = [0; PAGE_SIZE];
    let claim = pool.pages().claim(shard, &mut page).expect("a page waits");
    codec::compress(&page, |kept| {
        meanwhile();
        pool.pages().finish(shard, claim, kept);
    });
}

#[test]
fn page_that_is_replaced_while_it_is_compressed_stays_replaced() {
    let (client, pool) = pool_that_defers();
    pool.put(&OBJECT, 0, &numbered(1));
    compress_while(&pool, || {
        // Nothing else is in use: the newer page has the same slot.
        pool.flush(&OBJECT, 0, 1);
        pool.put(&OBJECT, 0, &numbered(2));
    });
    let mut buffer = [0; PAGE_SIZE];
    assert_eq!(pool.get(&OBJECT, 0, &mut buffer), Get::Hit);
    assert!(buffer == numbered(2));
    assert_eq!(client.stats().deferred_pages, 1);
    assert_eq!(client.stats().compressed_deferred_pages, 0);

    compress_while(&pool, || {
        let put = pool.put(&OBJECT, 0, &numbered(3));
        assert!(put.prior_removed);
        // And it is claimed again in between: the claims are told apart.
        compress_while(&pool, || {});
        pool.put(&OBJECT, 0, &numbered(4));
    });
    assert_eq!(pool.get(&OBJECT, 0, &mut buffer), Get::Hit);
    assert!(buffer == numbered(4));

    compress_while(&pool, || {
        pool.put(&OBJECT, 0, &[0; PAGE_SIZE]);
    });
    assert_eq!(pool.get(&OBJECT, 0, &mut buffer), Get::Hit);
    assert!(buffer == [0; PAGE_SIZE]);
    assert_eq!(client.stats().deferred_pages, 0);
}

#[test]
fn older_claim_does_not_end_a_newer_one_of_the_same_place() {
    let (_client, pool) = pool_that_defers();
    pool.put(&OBJECT, 0, &numbered(1));
    let shard = Key::new(&pool.pages().seed, &OBJECT, 0).shard();
    let (mut older, mut newer) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
    let first = pool.pages().claim(shard, &mut older).expect("a page waits");
    assert!(
        pool.pages().claim(shard, &mut newer).is_none(),
        "it is claimed"
    );
    pool.put(&OBJECT, 0, &numbered(2));
    let second = pool
        .pages()
        .claim(shard, &mut newer)
        .expect("a newer page waits");
    codec::compress(&older, |kept| pool.pages().finish(shard, first, kept));
    codec::compress(&newer, |kept| pool.pages().finish(shard, second, kept));
    let mut buffer = [0; PAGE_SIZE];
    assert_eq!(pool.get(&OBJECT, 0, &mut buffer), Get::Hit);
    assert!(buffer == numbered(2));
    assert_eq!(pool.pages().deferred(), 0);
}

#[test]
fn page_that_is_removed_while_it_is_compressed_stays_removed() {
    let (client, pool) = pool_that_defers();
    let mut buffer = [0; PAGE_SIZE];
    pool.put(&OBJECT, 0, &numbered(1));
    compress_while(&pool, || assert_eq!(pool.flush(&OBJECT, 0, 1), 1));
    assert_eq!(pool.get(&OBJECT, 0, &mut buffer), Get::Miss);
    pool.put(&OBJECT, 0, &numbered(1));
    compress_while(&pool, || {
        assert_eq!(pool.take(&OBJECT, 0, &mut buffer), Get::Hit);
    });
    assert_eq!(pool.get(&OBJECT, 0, &mut buffer), Get::Miss);
    pool.put(&OBJECT, 0, &numbered(1));
    compress_while(&pool, || assert_eq!(client.destroy_pool(0), Some(1)));
    assert_eq!(client.stats().held_bytes, 0);
    assert_eq!(client.stats().deferred_pages, 0);
}

#[test]
fn put_that_needs_memory_does_not_wait_for_the_compressor() {
    let (client, pool) = pool_that_defers();
    pool.put(&OBJECT, 0, &numbered(1));
    compress_while(&pool, || {
        assert_eq!(pool.pages().compress_now(true), 1);
        assert_eq!(client.stats().deferred_pages, 0);
    });
    assert_eq!(client.stats().compressed_deferred_pages, 1);
    let mut buffer = [0; PAGE_SIZE];
    assert_eq!(pool.get(&OBJECT, 0, &mut buffer), Get::Hit);
    assert!(buffer == numbered(1));
}

#[test]
fn put_does_not_wait_for_a_lock_in_another_clients_pool() {
    let store = Store::new(StoreConfig {
        memory_limit: 2 << 20,
        deferred_limit: 0,
        spill: None,
    })
    .expect("a store");
    let client = |kind| {
        let config = ClientConfig {
            name: String::new(),
            identity: None,
            quota: 1 << 30,
            max_pools: 1,
            weight: ClientConfig::WEIGHT,
        };
        let client = store.add_client(config).expect("a client");
        client
            .create_pool(0, PoolConfig { kind, quota: None })
            .expect("a pool");
        let pool = client.pool(0).expect("the pool");
        (client, pool)
    };
    let (_others, theirs) = client(PoolKind::Ephemeral);
    let (_own, ours) = client(PoolKind::Persistent);
    let noise = |seed: u64| {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::array::from_fn(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
    };
    for index in 0..1000 {
        theirs.put(&OBJECT, index, &noise(index));
    }
    let before = store.stats().evicted_pages;
    // Nothing can be evicted: refused, but answered.
    let locks: Vec<_> = theirs
        .pages()
        .shards
        .iter()
        .map(|lock| lock.shard.read())
        .collect();
    let mut refusals = 0;
    for index in 0..16 {
        refusals += u32::from(ours.put(&OBJECT, index, &noise(index)).result.is_err());
    }
    assert!(refusals > 0);
    assert_eq!(store.stats().evicted_pages, before);
    // One shard is free: it gives its pages up.
    let mut locks = locks;
    drop(locks.remove(5));
    assert!(ours.put(&OBJECT, 0, &noise(0)).result.is_ok());
    drop(locks);
    for index in 0..16 {
        assert!(ours.put(&OBJECT, index, &noise(index)).result.is_ok());
    }
}

#[test]
fn flush_yields_the_lock_and_can_be_stopped() {
    let client = client(0);
    let kind = PoolKind::Persistent;
    client
        .create_pool(0, PoolConfig { kind, quota: None })
        .expect("a pool");
    let pool = client.pool(0).expect("the pool");
    let blocks = 16_000;
    let fill = || {
        for block in 0..blocks {
            let put = pool.put(&OBJECT, 16 * block, &[7; PAGE_SIZE]);
            assert!(put.result.is_ok());
        }
    };
    fill();
    // Whatever happens in between.
    let mut rounds = 0_u64;
    let removed = pool.flush_ranges_while(&OBJECT, &mut [(16, 16 * blocks)], &mut || {
        assert!(
            pool.pages()
                .shards
                .iter()
                .all(|lock| lock.shard.try_write().is_ok())
        );
        rounds += 1;
        // A page that is not meant, and one that is.
        pool.flush(&OBJECT, 0, 1);
        pool.put(&OBJECT, 0, &[1; PAGE_SIZE]);
        pool.flush(&OBJECT, 16 * (blocks - rounds), 1);
        true
    });
    assert!(rounds > blocks / 1000, "{rounds}");
    assert_eq!(removed.map(|pages| pages < blocks), Some(true));
    assert_eq!(client.stats().persistent_pages, 1);
    fill();
    let mut asked = 0;
    let stopped = pool.flush_ranges_while(&OBJECT, &mut [(0, u64::MAX)], &mut || {
        asked += 1;
        asked < 3
    });
    assert_eq!((stopped, asked), (None, 3));
    let left = client.stats().persistent_pages;
    assert!((blocks / 2..blocks).contains(&left), "{left}");
    assert_eq!(pool.drain_while(&mut || false), None);
    let drained = pool.drain_while(&mut || true);
    assert_eq!(client.stats().persistent_pages, 0);
    assert!(drained.is_some_and(|pages| pages < left && pages > left - 1000));
}

/// Somebody has the shard with the oldest pages; most others have none.
#[test]
fn eviction_goes_on_to_a_shard_with_pages() {
    let client = client(0);
    let config = PoolConfig {
        kind: PoolKind::Ephemeral,
        quota: None,
    };
    client.create_pool(0, config).expect("a pool");
    let pool = client.pool(0).expect("the pool");
    let shard_of = |index: u64| Key::new(&pool.pages().seed, &OBJECT, split(index).0).shard();
    let oldest = shard_of(0);
    // Not the first that is looked at.
    let mut others = (1..10_000).map(|nth| nth << 10);
    let other = others
        .find(|index| shard_of(*index) > 1 && shard_of(*index) != oldest)
        .expect("another shard");
    for index in [0, other] {
        assert_eq!(pool.put(&OBJECT, index, &text()).result, Ok(()));
    }
    let held = pool
        .pages()
        .lock(oldest)
        .shard
        .write()
        .expect("nobody else has it");
    assert_eq!(pool.pages().evict(oldest, false, false), Some(1));
    assert_eq!(pool.pages().evict(oldest, false, false), Some(0));
    drop(held);
    assert_eq!(pool.pages().evict(oldest, false, false), Some(1));
}

/// A page that does not compress.
fn noise(seed: u64) -> Page {
    let (mut page, mut state) = ([0; PAGE_SIZE], seed | 1 << 63);
    for word in page.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    page
}

/// Threads that lost their CPU while they read pages of the client's, in each segment: nothing
/// can be moved, and a put that needs memory sleeps for them, but not for long.
#[test]
fn readers_that_stay_hold_a_put_up_for_a_moment_only() {
    const PUTS: u32 = 10;
    /// What each sleeps at least in all, and what it may take on a busy machine.
    const SLEPT: Duration = Duration::from_millis(8);
    const BOUND: Duration = Duration::from_secs(2);
    let client = client(0);
    client.set_quota(1 << 20);
    let config = PoolConfig::new(PoolKind::Persistent);
    client.create_pool(0, config).expect("a pool");
    let pool = client.pool(0).expect("the pool");
    let mut pages = 0;
    while pool.put(&OBJECT, pages, &noise(pages)).result.is_ok() {
        pages += 1;
    }
    for index in (0..pages).filter(|index| index % 2 == 1) {
        assert_eq!(pool.flush(&OBJECT, index, 1), 1);
    }
    let budget = &pool.pages().budget;
    let read: Vec<_> = (0..pages)
        .filter(|index| index % 2 == 0)
        .map(|index| {
            let (block, nth) = split(index);
            let key = Key::new(&pool.pages().seed, &OBJECT, block);
            let shard = pool.pages().shard(key.shard());
            let (entry, _) = shard.view(&key, nth).expect("it is kept");
            budget.log.pin(&budget.store.arena, entry)
        })
        .collect();

    let puts = || {
        let put = |nth| pool.put(&[2; 24], nth, &noise(pages + nth)).result;
        (0..u64::from(PUTS))
            .filter(|nth| put(*nth).is_err())
            .count()
    };
    let began = Instant::now();
    assert_eq!(puts(), 10, "there is room without what is read");
    let time = began.elapsed();
    assert!(time > PUTS * SLEPT, "nobody was waited for: {time:?}");
    assert!(time < PUTS * BOUND, "{time:?}");
    for pin in read {
        budget.unpin(pin);
    }
    assert_eq!(puts(), 0, "it is not moved when nobody reads it");
}
