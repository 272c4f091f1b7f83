// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Persistent pages that memory has no room for are in a spill area, and nothing of them is lost or
//! wrong.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod common;

use common::{MIB, OBJECT, RAW};
use rustix::fs::{MemfdFlags, SealFlags};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempDir;
use tmem_store::{
    Client, ClientConfig, Error, Get, Identity, ObjectId, PAGE_SIZE, Page, PageMemory, Pool,
    PoolConfig, PoolKind, Put, Recovery, Refused, SpillArea, SpillError, Store, StoreConfig,
};

const WHO: Identity = Identity::new([9; 16]);

/// Memory of a store, in bytes.
const MEMORY: u64 = 4 * MIB;

/// Pages that take ten times as much, as they do not compress.
const MANY: u64 = 10 * MEMORY / PAGE_SIZE as u64;

struct World {
    dir: TempDir,
    path: PathBuf,
    config: StoreConfig,
    store: Store,
    client: Client,
}

fn without_area() -> StoreConfig {
    StoreConfig::with_limit(MEMORY).with_deferred_limit(0)
}

fn config(path: &Path, size: u64) -> StoreConfig {
    without_area().with_spill(SpillArea::open(path, Some(size)).unwrap())
}

fn world(spill: u64) -> World {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spill");
    world_of(dir, path, spill)
}

fn world_of(dir: TempDir, path: PathBuf, spill: u64) -> World {
    let config = config(&path, spill);
    let store = Store::new(config.clone()).unwrap();
    let client = store.add_client(client_config()).unwrap();
    for (id, kind) in [(0, PoolKind::Persistent), (1, PoolKind::Ephemeral)] {
        client.create_pool(id, PoolConfig::new(kind)).unwrap();
    }
    World {
        dir,
        path,
        config,
        store,
        client,
    }
}

fn client_config() -> ClientConfig {
    ClientConfig::new("guest", 1 << 30).with_identity(WHO)
}

impl World {
    fn pool(&self) -> Pool {
        self.client.pool(0).unwrap()
    }

    fn ephemeral(&self) -> Pool {
        self.client.pool(1).unwrap()
    }

    /// Ends the store as a process that is killed, and makes another one of what it leaves.
    fn restart(self, config: impl FnOnce(StoreConfig, &Path) -> StoreConfig) -> Restarted {
        let file = self.store.page_memory().try_clone_to_owned().unwrap();
        let config = config(self.config, &self.path);
        // Nothing is given back.
        std::mem::forget(self.client);
        // SAFETY: the earlier store does nothing more.
        #[allow(unsafe_code, reason = "as it is meant to be used")]
        let memory = unsafe { PageMemory::new(file) };
        (self.dir, Store::recover(memory, config))
    }
}

type Restarted = (TempDir, Result<Recovery, Error>);

/// Every seed makes another page, and none compresses.
fn page(seed: u64) -> Page {
    common::page(seed, RAW)
}

fn holds(pool: &Pool, index: u64, seed: u64) {
    let mut found = [0; PAGE_SIZE];
    assert_eq!(
        pool.get(&OBJECT, index, &mut found),
        Get::Hit,
        "page {index}"
    );
    assert!(found == page(seed), "page {index} is another one");
}

fn fill(pool: &Pool, pages: u64) {
    for index in 0..pages {
        let put = pool.put(&OBJECT, index, &page(index));
        assert_eq!(put.result, Ok(()), "page {index}");
    }
}

/// Replaces pages at random, `times` in all, and compares every one in the end.
fn overwritten(
    pool: &Pool,
    pages: u64,
    times: u64,
    put: impl Fn(&Pool, &ObjectId, u64, &Page) -> Put,
) {
    let mut seeds: BTreeMap<u64, u64> = (0..pages).map(|index| (index, index)).collect();
    let mut random = 1_u64;
    for nth in 0..times {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (index, seed) = ((random >> 33) % pages, pages + nth);
        let put = put(pool, &OBJECT, index, &page(seed));
        assert_eq!(put.result, Ok(()), "overwrite {nth} of {pages}");
        seeds.insert(index, seed);
    }
    for (index, seed) in seeds {
        holds(pool, index, seed);
    }
}

#[test]
fn ten_times_the_memory_is_kept_and_read_back() {
    let world = world(64 * MIB);
    let pool = world.pool();
    fill(&pool, MANY);
    let stats = world.store.stats();
    assert!(stats.held_bytes <= MEMORY, "{stats:?}");
    assert!(stats.spilled_pages > MANY * 8 / 10, "{stats:?}");
    for index in 0..MANY {
        holds(&pool, index, index);
    }
    let stats = world.store.stats();
    assert_eq!((stats.spill_read_errors, stats.spill_write_errors), (0, 0));
    assert!(stats.spill_read_pages > MANY * 8 / 10, "{stats:?}");
}

#[test]
fn slots_come_back_when_pages_go() {
    let world = world(64 * MIB);
    let pool = world.pool();
    for _ in 0..3 {
        fill(&pool, MANY);
        assert!(world.store.stats().spill_free_bytes < 32 * MIB);
        assert_eq!(pool.flush(&OBJECT, 0, u64::MAX), MANY);
        let stats = world.store.stats();
        assert_eq!((stats.spilled_pages, stats.spilled_bytes), (0, 0));
        assert_eq!(stats.spill_free_bytes, stats.spill_size_bytes);
        assert!(stats.held_bytes < MIB, "{stats:?}");
    }
}

#[test]
fn a_sparse_area_is_cleaned_when_slots_are_short() {
    // Each page in turn is replaced many times, so that the area has holes everywhere.
    let world = world(48 * MIB);
    let pool = world.pool();
    fill(&pool, MANY);
    overwritten(&pool, MANY, 3 * MANY, Pool::put);
    assert_eq!(world.store.stats().spill_write_errors, 0);
}

#[test]
fn a_full_area_refuses_and_loses_nothing() {
    let world = world(8 * MIB);
    let pool = world.pool();
    let mut kept = 0;
    let refused = loop {
        match pool.put(&OBJECT, kept, &page(kept)).result {
            Ok(()) => kept += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Refused::Memory);
    let least = (MEMORY + 8 * MIB) * 8 / 10 / PAGE_SIZE as u64;
    assert!(kept > least, "{kept} pages, not {least}");
    for index in 0..kept {
        holds(&pool, index, index);
    }
    // There is room again.
    assert_eq!(pool.flush(&OBJECT, 0, kept / 2), kept / 2);
    assert_eq!(pool.put(&OBJECT, 0, &page(7)).result, Ok(()));
}

#[test]
fn ephemeral_pages_are_evicted_instead() {
    let world = world(64 * MIB);
    let ephemeral = world.ephemeral();
    for index in 0..MANY / 20 {
        let put = ephemeral.put(&OBJECT, index, &page(index));
        assert_eq!(put.result, Ok(()));
    }
    fill(&world.pool(), MANY);
    let stats = world.client.stats();
    assert_eq!(stats.persistent_pages, MANY);
    assert!(stats.evicted_pages > 0, "{stats:?}");
    let mut found = [0; PAGE_SIZE];
    for index in 0..MANY / 20 {
        if ephemeral.get(&OBJECT, index, &mut found) == Get::Hit {
            assert!(found == page(index));
        }
    }
    assert_eq!(world.client.stats().spill_read_pages, 0, "none is spilled");
}

/// Ephemeral pages between persistent ones leave holes everywhere when they go.
#[test]
fn memory_is_not_moved_about_when_pages_may_go_to_the_area() {
    let world = world(16 * MEMORY);
    let mut bytes = 0;
    for index in 0..MANY {
        let put = world.pool().put(&OBJECT, index, &page(index));
        assert_eq!(put.result, Ok(()));
        bytes += PAGE_SIZE as u64;
        if world
            .ephemeral()
            .put(&OBJECT, index, &page(index))
            .result
            .is_ok()
        {
            bytes += PAGE_SIZE as u64;
        }
    }
    let stats = world.client.stats();
    assert!(stats.demoted_pages > 0 && stats.evicted_pages > 0);
    let moved = stats.moved_bytes;
    assert!(moved < 2 * bytes, "{moved} of {bytes}");
    (0..MANY).for_each(|index| holds(&world.pool(), index, index));
}

#[test]
fn a_page_that_is_used_twice_is_promoted() {
    let world = world(64 * MIB);
    let pool = world.pool();
    fill(&pool, MANY);
    // Room for what is promoted.
    pool.flush(&OBJECT, MANY - 400, u64::MAX);
    holds(&pool, 0, 0);
    assert_eq!(world.client.stats().promoted_pages, 0);
    holds(&pool, 0, 0);
    let stats = world.client.stats();
    assert_eq!((stats.promoted_pages, stats.spill_read_pages), (1, 2));
    holds(&pool, 0, 0);
    assert_eq!(world.client.stats().spill_read_pages, 2);
}

#[test]
fn quotas_count_what_is_spilled() {
    let world = world(64 * MIB);
    world.client.set_quota(12 * MIB);
    let pool = world.pool();
    let mut kept = 0;
    while pool.put(&OBJECT, kept, &page(kept)).result == Ok(()) {
        kept += 1;
    }
    let put = pool.put(&OBJECT, kept, &page(kept));
    assert_eq!(put.result, Err(Refused::Quota));
    let stats = world.client.stats();
    assert!(stats.held_bytes <= 12 * MIB, "{stats:?}");
    assert!(kept * PAGE_SIZE as u64 > 10 * MIB, "{kept} pages");
    assert!(stats.spilled_bytes > 6 * MIB, "{stats:?}");
}

#[test]
fn at_the_quota_pages_can_be_overwritten_for_ever() {
    let world = world(64 * MIB);
    world.client.set_quota(16 * MIB);
    let pool = world.pool();
    // As a disk writes its blocks: new ones leave a part of the quota.
    let mut kept = 0;
    while pool.put_or_keep(&OBJECT, kept, &page(kept)).result == Ok(()) {
        kept += 1;
    }
    overwritten(&pool, kept, 4 * kept, Pool::put_or_keep);
    let stats = world.client.stats();
    assert!(stats.held_bytes <= 16 * MIB + MIB / 2, "{stats:?}");
}

#[test]
fn what_cannot_be_demoted_is_not_tried_without_end() {
    let world = world(64 * MIB);
    let pool = world.pool();
    // Nothing but pages of one word: there is more of them than memory has room for.
    let word = |index: u64| {
        let mut page = [0; PAGE_SIZE];
        page.as_chunks_mut::<8>().0.fill((index + 1).to_le_bytes());
        page
    };
    let mut kept = 0;
    while pool.put(&OBJECT, kept, &word(kept)).result == Ok(()) {
        kept += 1;
        assert!(kept < 1 << 20, "they take no memory");
    }
    let mut turns = 0;
    while world.store.demote_some() {
        turns += 1;
        assert!(turns < 10_000, "it does not end");
    }
    let mut found = [0; PAGE_SIZE];
    for index in (0..kept).step_by(97) {
        assert_eq!(pool.get(&OBJECT, index, &mut found), Get::Hit);
        assert!(found == word(index));
    }
}

#[test]
fn a_restart_finds_what_was_spilled() {
    let world = world(64 * MIB);
    let pool = world.pool();
    fill(&pool, MANY);
    for index in (0..MANY).step_by(3) {
        pool.flush(&OBJECT, index, 1);
    }
    for index in (1..MANY).step_by(3) {
        assert_eq!(pool.put(&OBJECT, index, &page(index + MANY)).result, Ok(()));
    }
    drop(pool);
    let (_dir, recovery) = world.restart(|config, _| config);
    let mut recovery = recovery.unwrap();
    let client = recovery.client(WHO, client_config()).unwrap();
    let pool = client.pool(0).unwrap();
    let mut found = [0; PAGE_SIZE];
    for index in 0..MANY {
        match index % 3 {
            0 => assert_eq!(pool.get(&OBJECT, index, &mut found), Get::Miss),
            1 => holds(&pool, index, index + MANY),
            _ => holds(&pool, index, index),
        }
    }
    assert_eq!(client.stats().persistent_pages, MANY - MANY.div_ceil(3));
    // It goes on, and all slots come back.
    fill(&pool, MANY);
    pool.flush(&OBJECT, 0, u64::MAX);
    let stats = recovery.store().stats();
    assert_eq!(stats.spill_free_bytes, stats.spill_size_bytes);
}

#[test]
fn a_restart_without_the_area_is_refused() {
    let refused = |config: fn(StoreConfig, &Path) -> StoreConfig| {
        let world = world(64 * MIB);
        fill(&world.pool(), MANY);
        let (_dir, recovery) = world.restart(config);
        assert!(
            matches!(recovery, Err(Error::OtherSpillArea)),
            "{recovery:?}"
        );
    };
    refused(|_, _| without_area());
    refused(|_, path| config(&path.with_extension("other"), 64 * MIB));
    // Of a smaller one a part is missing.
    refused(|_, path| {
        let copy = path.with_extension("copy");
        std::fs::copy(path, &copy).unwrap();
        config(&copy, 8 * MIB)
    });
}

#[test]
fn a_restart_may_find_the_area_larger() {
    let world = world(64 * MIB);
    fill(&world.pool(), MANY);
    let (_dir, recovery) = world.restart(|_, path| {
        // The other daemon's lock went with it.
        let larger = path.with_extension("larger");
        std::fs::copy(path, &larger).unwrap();
        config(&larger, 96 * MIB)
    });
    let mut recovery = recovery.unwrap();
    let client = recovery.client(WHO, client_config()).unwrap();
    let pool = client.pool(0).unwrap();
    for index in 0..MANY {
        holds(&pool, index, index);
    }
    let stats = recovery.store().stats();
    assert_eq!(stats.spill_size_bytes, 96 * MIB - (128 << 10));
    pool.flush(&OBJECT, 0, u64::MAX);
    let stats = recovery.store().stats();
    assert_eq!(stats.spill_free_bytes, stats.spill_size_bytes);
}

/// Flips a bit of each block of the area, but of its first slot.
fn damage(path: &Path) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let len = file.metadata().unwrap().len();
    for at in (128 << 10..len).step_by(4096) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at + 2000).unwrap();
        byte[0] ^= 0x10;
        file.write_all_at(&byte, at + 2000).unwrap();
    }
}

#[test]
fn a_flipped_bit_is_never_read_as_a_page() {
    let world = world(64 * MIB);
    let pool = world.pool();
    fill(&pool, MANY);
    damage(&world.path);
    let mut lost = 0;
    for index in 0..MANY {
        let mut found = [0; PAGE_SIZE];
        match pool.get(&OBJECT, index, &mut found) {
            Get::Hit => assert!(found == page(index), "page {index} is another one"),
            Get::Lost => lost += 1,
            Get::Miss => panic!("page {index} is missing"),
        }
    }
    let stats = world.store.stats();
    assert!(lost > MANY / 2, "{lost} pages");
    assert_eq!(world.client.stats().get_lost, lost);
    assert_eq!(stats.spill_read_errors, lost);
    // Others go on.
    assert_eq!(pool.put(&OBJECT, 0, &page(5)).result, Ok(()));
    holds(&pool, 0, 5);
    drop(pool);
    let in_memory = MANY - world.store.stats().spilled_pages;
    let (_dir, recovery) = world.restart(|config, _| config);
    let mut recovery = recovery.unwrap();
    let client = recovery.client(WHO, client_config()).unwrap();
    assert_eq!(found_of(&client, 5), (in_memory, MANY - in_memory));
}

/// Pages that are there, and that are missing; page 0 is of this seed, others are as they were filled.
fn found_of(client: &Client, seed: u64) -> (u64, u64) {
    let pool = client.pool(0).unwrap();
    let (mut hits, mut misses) = (0, 0);
    for index in 0..MANY {
        let mut found = [0; PAGE_SIZE];
        match pool.get(&OBJECT, index, &mut found) {
            Get::Hit => {
                let seed = if index == 0 { seed } else { index };
                assert!(found == page(seed), "page {index} is another one");
                hits += 1;
            }
            Get::Miss => misses += 1,
            Get::Lost => panic!("page {index} is there and cannot be read"),
        }
    }
    (hits, misses)
}

#[test]
fn a_restart_loses_what_it_cannot_read_and_nothing_else() {
    let world = world(64 * MIB);
    fill(&world.pool(), MANY);
    let segments = world.store.stats().spilled_bytes / (128 << 10);
    let (_dir, recovery) = world.restart(|config, path| {
        // The later part of the area is gone.
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(20 * MIB).unwrap();
        config
    });
    let mut recovery = recovery.unwrap();
    let client = recovery.client(WHO, client_config()).unwrap();
    let lost = client.stats().spill_read_errors;
    assert!(
        (segments / 4..segments).contains(&lost),
        "{lost} of {segments}"
    );
    let (hits, misses) = found_of(&client, 0);
    assert_eq!(hits + misses, MANY);
    assert_eq!(client.stats().persistent_pages, hits);
    // 31 pages in each at most.
    assert!(
        (lost * 20..=lost * 31).contains(&misses),
        "{misses} in {lost}"
    );
    // What is lost can be put anew, and no slot is.
    let pool = client.pool(0).unwrap();
    pool.flush(&OBJECT, 0, u64::MAX);
    let stats = recovery.store().stats();
    assert_eq!(stats.spill_free_bytes, stats.spill_size_bytes);
}

/// With a file that is opened by its descriptor's path.
fn with_file(file: &impl AsFd) -> World {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    world_of(tempfile::tempdir().unwrap(), path.into(), 64 * MIB)
}

#[test]
fn an_area_that_cannot_be_written_any_more_loses_nothing() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("area", flags).unwrap();
    let world = with_file(&file);
    let pool = world.pool();
    fill(&pool, MANY / 2);
    // Each write is refused from now on.
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE).unwrap();
    let mut kept = MANY / 2;
    let refused = loop {
        match pool.put(&OBJECT, kept, &page(kept)).result {
            Ok(()) => kept += 1,
            Err(refused) => break refused,
        }
        assert!(kept < MANY, "memory has room for all");
    };
    assert_eq!(refused, Refused::Memory);
    let stats = world.store.stats();
    assert!(stats.spill_write_errors > 0, "{stats:?}");
    assert!(stats.held_bytes <= MEMORY, "{stats:?}");
    for index in 0..kept {
        holds(&pool, index, index);
    }
}

#[test]
fn an_area_that_cannot_be_read_any_more_loses_what_is_there_and_nothing_else() {
    let file = tempfile::tempfile().unwrap();
    let world = with_file(&file);
    let pool = world.pool();
    fill(&pool, MANY);
    file.set_len(4 * MIB).unwrap();
    let (mut hits, mut lost) = (0, 0);
    for index in 0..MANY {
        let mut found = [0; PAGE_SIZE];
        match pool.get(&OBJECT, index, &mut found) {
            Get::Hit => {
                assert!(found == page(index), "page {index} is another one");
                hits += 1;
            }
            Get::Lost => lost += 1,
            Get::Miss => panic!("page {index} is missing"),
        }
    }
    let in_memory = MANY - world.store.stats().spilled_pages;
    assert!(hits >= in_memory, "{hits} of {in_memory} in memory");
    assert!(lost > MANY / 2, "{lost} pages");
    // What is lost can be put anew, and flushed.
    assert_eq!(pool.put(&OBJECT, 0, &page(3)).result, Ok(()));
    holds(&pool, 0, 3);
    assert_eq!(pool.flush(&OBJECT, 0, u64::MAX), MANY);
    assert_eq!(world.store.stats().spilled_bytes, 0);
}

/// Time after which what could not be read is tried again, in seconds.
const AGAIN: u64 = 2;

#[test]
fn what_cannot_be_read_is_cleaned_when_it_can() {
    let file = tempfile::tempfile().unwrap();
    let world = with_file(&file);
    let pool = world.pool();
    fill(&pool, MANY);
    let mut content = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut content, 0).unwrap();
    // All slots are gone. Nothing is written meanwhile: memory is not short.
    file.set_len(128 << 10).unwrap();
    pool.flush(&OBJECT, MANY - 1000, u64::MAX);
    for index in (0..MANY).filter(|index| !index.is_multiple_of(3)) {
        pool.flush(&OBJECT, index, 1);
    }
    let clean = || while world.store.demote_some() {};
    let stats = || world.store.stats();
    let written = stats().spill_written_segments;
    let segments = stats().spilled_bytes / (128 << 10);
    let start = Instant::now();
    for _ in 0..2 * segments {
        clean();
    }
    // Not again and again.
    let (tried, times) = (
        stats().spill_read_errors,
        1 + start.elapsed().as_secs() / AGAIN,
    );
    assert!(
        (1..=segments * times).contains(&tried),
        "{tried} of {segments}"
    );
    assert_eq!(stats().spill_written_segments, written);
    assert!(stats().spilled_bytes >= segments * (128 << 10));
    // They are back.
    file.write_all_at(&content, 0).unwrap();
    while stats().spilled_bytes > segments * (128 << 10) / 2 {
        assert!(start.elapsed().as_secs() < 60, "{:?}", stats());
        clean();
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for index in (0..MANY - 1000).step_by(3) {
        holds(&pool, index, index);
    }
}

#[test]
fn what_is_not_an_area_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreign");
    let mut content = vec![0; 1 << 20];
    content[4086..4096].copy_from_slice(b"SWAPSPACE2");
    std::fs::write(&path, &content).unwrap();
    let opened = SpillArea::open(&path, Some(64 * MIB));
    assert!(
        matches!(opened, Err(SpillError::Foreign { .. })),
        "{opened:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), content);

    let opened = SpillArea::open(dir.path(), None);
    assert!(opened.is_err(), "{opened:?}");
    let opened = SpillArea::open(Path::new("/dev/null"), None);
    assert!(
        matches!(opened, Err(SpillError::WrongKind { .. })),
        "{opened:?}"
    );
    let path = dir.path().join("small");
    let opened = SpillArea::open(&path, Some(1000));
    assert!(
        matches!(opened, Err(SpillError::TooSmall { .. })),
        "{opened:?}"
    );
    assert!(!path.exists());

    let path = dir.path().join("taken");
    let _taken = SpillArea::open(&path, Some(MIB)).unwrap();
    let opened = SpillArea::open(&path, Some(MIB));
    assert!(
        matches!(opened, Err(SpillError::InUse { .. })),
        "{opened:?}"
    );
}
