// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A place for segments that others have to answer for: who speaks to it, who waits for it, and what
//! a restart makes of it. The place is made up; real ones are in the end-to-end tests.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{OBJECT, RAW};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use tmem_store::{
    Area, Client, ClientConfig, Identity, PAGE_SIZE, Page, PageMemory, Pool, PoolConfig, PoolKind,
    Reading, Refused, SEGMENT_BYTES, SegmentKey, Store, StoreConfig,
};

const WHO: Identity = Identity::new([4; 16]);
const MEMORY: u64 = 4 << 20;

/// Pages that take twice as much, as they do not compress.
const MANY: u64 = 2 * MEMORY / PAGE_SIZE as u64;

type Key = (u64, [u8; 16], u64);

#[derive(Debug, Default)]
struct Others {
    values: Mutex<HashMap<Key, Vec<u8>>>,
    identity: AtomicU64,
    made: AtomicU64,
    is_silent: AtomicBool,
    /// Names of threads that have written.
    writers: Mutex<Vec<String>>,
    /// Reads that were asked for ahead.
    ahead: AtomicU64,
}

/// What a store has of them.
#[derive(Clone, Debug, Default)]
struct Remote(Arc<Others>);

impl Remote {
    fn key(&self, segment: SegmentKey) -> Key {
        (self.identity(), segment.client.bytes(), segment.sequence)
    }

    fn len(&self) -> usize {
        self.0.values.lock().unwrap().len()
    }
}

#[derive(Debug)]
struct Begun(Remote, SegmentKey, usize);

impl Reading for Begun {
    fn finish(
        self: Box<Self>,
        bytes: &mut [u8],
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        self.0.read(self.1, self.2, bytes, go_on)
    }
}

impl Area for Remote {
    fn name(&self) -> String {
        "others".into()
    }

    fn identity(&self) -> u64 {
        self.0.identity.load(SeqCst)
    }

    fn segments(&self) -> u32 {
        1 << 10
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn renew(&self) -> io::Result<()> {
        let identity = self.0.made.fetch_add(1, SeqCst) + 1;
        self.0.identity.store(identity, SeqCst);
        Ok(())
    }

    fn take_over(&self, identity: u64) -> bool {
        self.0.identity.store(identity, SeqCst);
        true
    }

    fn read(
        &self,
        segment: SegmentKey,
        offset: usize,
        bytes: &mut [u8],
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        while self.0.is_silent.load(SeqCst) {
            if !go_on() {
                return Err(ErrorKind::Interrupted.into());
            }
            thread::yield_now();
        }
        let values = self.0.values.lock().unwrap();
        let value = values.get(&self.key(segment)).ok_or(ErrorKind::NotFound)?;
        bytes.copy_from_slice(&value[offset..offset + bytes.len()]);
        Ok(())
    }

    fn begin(&self, segment: SegmentKey, offset: usize, _len: usize) -> Option<Box<dyn Reading>> {
        self.0.ahead.fetch_add(1, SeqCst);
        Some(Box::new(Begun(self.clone(), segment, offset)))
    }

    fn write(&self, segment: SegmentKey, bytes: &[u8]) -> io::Result<()> {
        if self.0.is_silent.load(SeqCst) {
            return Err(ErrorKind::TimedOut.into());
        }
        let name = thread::current().name().unwrap_or_default().to_owned();
        self.0.writers.lock().unwrap().push(name);
        assert!(bytes.len() <= SEGMENT_BYTES);
        let earlier = self
            .0
            .values
            .lock()
            .unwrap()
            .insert(self.key(segment), bytes.to_vec());
        assert!(earlier.is_none(), "a segment was written twice");
        Ok(())
    }

    fn forget(&self, segment: SegmentKey) {
        self.0.values.lock().unwrap().remove(&self.key(segment));
    }
}

fn config(remote: &Remote) -> StoreConfig {
    let config = StoreConfig::with_limit(MEMORY).with_deferred_limit(0);
    config.with_spill(remote.clone())
}

fn client(store: &Store) -> (Client, Pool) {
    let config = ClientConfig::new("guest", 1 << 30).with_identity(WHO);
    let client = store.add_client(config).unwrap();
    let kind = PoolConfig::new(PoolKind::Persistent);
    client.create_pool(0, kind).unwrap();
    let pool = client.pool(0).unwrap();
    (client, pool)
}

/// Every seed makes another page, and none compresses.
fn page(seed: u64) -> Page {
    common::page(seed, RAW)
}

/// Puts pages from `first` on; how many were kept, until one was refused for want of memory.
fn fill(pool: &Pool, pages: std::ops::Range<u64>) -> u64 {
    let first = pages.start;
    for index in pages {
        match pool.put(&OBJECT, index, &page(index)).result {
            Ok(()) => {}
            Err(why) => {
                assert_eq!(why, Refused::Memory);
                return index - first;
            }
        }
    }
    u64::MAX
}

fn verify(pool: &Pool, pages: u64) {
    let mut seen = 0;
    for first in (0..pages).step_by(24) {
        pool.get_run(&OBJECT, first, 24, &mut |nth, found| {
            let index = first + u64::from(nth);
            if index < pages {
                assert_eq!(found, Ok(Some(&page(index))), "page {index}");
                seen += 1;
            }
        });
    }
    assert_eq!(seen, pages);
}

#[test]
fn only_the_demoter_writes_and_pages_of_a_run_are_asked_for_ahead() {
    let remote = Remote::default();
    let store = Store::new(config(&remote)).unwrap();
    let (client, pool) = client(&store);
    // Nobody else does, also when memory is full, or after the demoter has ended.
    let kept = fill(&pool, 0..MANY);
    assert!(kept < MANY, "{kept} pages are in memory");
    assert_eq!(remote.len(), 0);
    let compressor = store.start_compressor().unwrap();
    let demoter = store.start_demoter_with(|| ()).unwrap();
    assert_eq!(fill(&pool, kept..MANY), u64::MAX);
    drop(demoter);
    let written = remote.0.writers.lock().unwrap().len();
    assert!(written > 0);
    assert_ne!(fill(&pool, MANY..2 * MANY), u64::MAX);
    drop(compressor);
    let writers = std::mem::take(&mut *remote.0.writers.lock().unwrap());
    assert_eq!(writers.len(), written);
    assert!(writers.iter().all(|name| name == "demoter"), "{writers:?}");

    verify(&pool, MANY);
    assert!(remote.0.ahead.load(SeqCst) > 0);
    drop((pool, client));
    assert_eq!(remote.len(), 0);
}

#[test]
fn who_waits_for_others_can_be_stopped_and_what_is_in_memory_needs_nobody() {
    let remote = Remote::default();
    let store = Store::new(config(&remote)).unwrap();
    let (_client, pool) = client(&store);
    let demoter = store.start_demoter_with(|| ()).unwrap();
    assert_eq!(fill(&pool, 0..MANY), u64::MAX);
    remote.0.is_silent.store(true, SeqCst);
    let mut in_memory = 0;
    for index in 0..MANY {
        let mut asked = 0;
        let mut found = None;
        let whole = pool.get_run_while(
            &OBJECT,
            index,
            1,
            &mut || {
                asked += 1;
                asked < 3
            },
            &mut |_, page| found = Some(page == Ok(Some(&self::page(index)))),
        );
        assert_eq!(whole, asked == 0, "page {index}");
        assert_eq!(found, whole.then_some(true), "page {index}");
        in_memory += u64::from(whole);
    }
    assert!((1..MANY).contains(&in_memory), "{in_memory}");
    // Puts do not wait for ever either.
    let mut refused = 0;
    for index in MANY..MANY + 2000 {
        refused += u64::from(pool.put(&OBJECT, index, &page(index)).result.is_err());
    }
    assert!(refused > 0);
    remote.0.is_silent.store(false, SeqCst);
    verify(&pool, MANY);
    drop(demoter);
}

#[test]
fn a_restart_goes_on_with_the_area_of_its_stubs_or_with_a_new_one() {
    for pages in [MANY, 100] {
        let remote = Remote::default();
        let store = Store::new(config(&remote)).unwrap();
        let (client, pool) = client(&store);
        let demoter = store.start_demoter_with(|| ()).unwrap();
        assert_eq!(fill(&pool, 0..pages), u64::MAX);
        drop((demoter, pool));
        let identity = remote.identity();
        let file = store.page_memory().try_clone_to_owned().unwrap();
        // As in a process that is killed.
        std::mem::forget(client);
        // SAFETY: the earlier store does nothing more.
        #[allow(unsafe_code, reason = "as it is meant to be used")]
        let memory = unsafe { PageMemory::new(file) };
        remote.0.identity.store(0, SeqCst);
        let mut recovery = Store::recover(memory, config(&remote)).unwrap();
        // Without a page there, nothing says which area it was.
        let is_same = remote.identity() == identity;
        assert_eq!(is_same, pages == MANY);
        assert_ne!(remote.identity(), 0);
        let config = ClientConfig::new("guest", 1 << 30);
        let client = recovery.client(WHO, config).unwrap();
        verify(&client.pool(0).unwrap(), pages);
    }
}
