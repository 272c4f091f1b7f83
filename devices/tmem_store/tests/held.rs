// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A spill area on a device that is slow, or never answers: what is refused, and who waits for it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{OBJECT, RAW};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};
use tmem_store::{
    Area, Client, ClientConfig, Get, PAGE_SIZE, Page, Pool, PoolConfig, PoolKind, Refused,
    SegmentKey, Store, StoreConfig,
};

const MEMORY: u64 = 4 << 20;

/// Pages that take twice as much, as they do not compress.
const MANY: u64 = 2 * MEMORY / PAGE_SIZE as u64;

/// Pages of a machine that has nothing in the area.
const FEW: u64 = 64;

/// For what waits for nobody: only one that waits takes so long.
const GENEROUS: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    values: HashMap<(u32, u64), Vec<u8>>,
    /// What is asked for from now on is not answered.
    is_held: bool,
    /// How many wait for an answer.
    waiting: u32,
    /// Names of threads that have written.
    writers: Vec<String>,
}

#[derive(Debug, Default)]
struct Disk {
    state: Mutex<State>,
    changed: Condvar,
    identity: AtomicU64,
    /// For each write, in milliseconds.
    takes: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Device(Arc<Disk>);

impl Device {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// As a device that answers once it is not held any more.
    fn answer(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.waiting += 1;
        self.0.changed.notify_all();
        let is_held = |state: &mut State| state.is_held;
        let mut state = self.0.changed.wait_while(state, is_held).unwrap();
        state.waiting -= 1;
        state
    }

    fn hold(&self) {
        self.state().is_held = true;
    }

    fn release(&self) {
        self.state().is_held = false;
        self.0.changed.notify_all();
    }

    /// Waits until so many wait for the device.
    fn is_waited_for(&self, by: u32) {
        let too_few = |state: &mut State| state.waiting < by;
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.state(), GENEROUS, too_few);
        assert!(!waited.unwrap().1.timed_out(), "nobody asks the device");
    }
}

impl Area for Device {
    fn name(&self) -> String {
        "device".into()
    }

    fn identity(&self) -> u64 {
        self.0.identity.load(SeqCst)
    }

    fn segments(&self) -> u32 {
        1 << 10
    }

    fn renew(&self) -> io::Result<()> {
        self.0.identity.fetch_add(1, SeqCst);
        Ok(())
    }

    fn read(
        &self,
        segment: SegmentKey,
        offset: usize,
        bytes: &mut [u8],
        _: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        let state = self.answer();
        let value = state.values.get(&(segment.slot, segment.sequence));
        let value = value.ok_or(ErrorKind::NotFound)?;
        bytes.copy_from_slice(&value[offset..offset + bytes.len()]);
        Ok(())
    }

    fn write(&self, segment: SegmentKey, bytes: &[u8]) -> io::Result<()> {
        thread::sleep(Duration::from_millis(self.0.takes.load(SeqCst)));
        let name = thread::current().name().unwrap_or_default().to_owned();
        let mut state = self.answer();
        state.writers.push(name);
        let key = (segment.slot, segment.sequence);
        state.values.insert(key, bytes.to_vec());
        Ok(())
    }

    fn forget(&self, segment: SegmentKey) {
        let key = (segment.slot, segment.sequence);
        self.state().values.remove(&key);
    }
}

/// Every seed makes another page, and none compresses.
fn page(seed: u64) -> Page {
    common::page(seed, RAW)
}

fn store(device: &Device) -> Store {
    let config = StoreConfig::with_limit(MEMORY).with_deferred_limit(0);
    Store::new(config.with_spill(device.clone())).unwrap()
}

fn client(store: &Store, name: &str) -> (Client, Pool) {
    let client = store.add_client(ClientConfig::new(name, 1 << 30)).unwrap();
    let kind = PoolConfig::new(PoolKind::Persistent);
    client.create_pool(0, kind).unwrap();
    let pool = client.pool(0).unwrap();
    (client, pool)
}

/// How many of these puts are refused.
fn refused(pool: &Pool, pages: std::ops::Range<u64>) -> u64 {
    let put = |index| pool.put(&OBJECT, index, &page(index)).result;
    let refused = pages.filter(|index| match put(*index) {
        Ok(()) => false,
        Err(why) => {
            assert_eq!(why, Refused::Memory);
            true
        }
    });
    refused.count() as u64
}

/// Whether each of these pages is there; those that are not were not put.
fn verify(pool: &Pool, pages: std::ops::Range<u64>) -> u64 {
    let mut hits = 0;
    for index in pages {
        let mut found = [0; PAGE_SIZE];
        match pool.get(&OBJECT, index, &mut found) {
            Get::Hit => {
                assert!(found == page(index), "page {index} is another one");
                hits += 1;
            }
            other => assert_eq!(other, Get::Miss, "page {index}"),
        }
    }
    hits
}

/// Does something that must not wait for the device.
fn without_waiting(device: &Device, what: &str, act: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let (done, is_done) = channel();
        scope.spawn(move || {
            act();
            let _ = done.send(());
        });
        let result = is_done.recv_timeout(GENEROUS);
        if result.is_err() {
            // Or the thread would never end.
            device.release();
        }
        assert!(result.is_ok(), "{what}: waits, or has failed");
    });
}

#[test]
fn no_put_within_quota_is_refused_while_a_segment_takes_a_tenth_of_a_second() {
    let device = Device::default();
    device.0.takes.store(100, SeqCst);
    let store = store(&device);
    let clients = ["a", "b", "c"].map(|name| client(&store, name));
    let _demoter = store.start_demoter_with(|| ()).unwrap();
    // All of them have the largest runs under way.
    const RUN: u32 = 128;
    let runs = MANY / clients.len() as u64 / u64::from(RUN);
    thread::scope(|scope| {
        for (_, pool) in &clients {
            scope.spawn(move || {
                for run in 0..runs {
                    let first = run * u64::from(RUN);
                    let mut puts = 0;
                    pool.put_run(
                        &OBJECT,
                        first,
                        RUN,
                        &mut |nth, to| {
                            *to = page(first + u64::from(nth));
                            true
                        },
                        &mut |_, put| {
                            assert_eq!(put.result, Ok(()));
                            puts += 1;
                        },
                    );
                    assert_eq!(puts, RUN);
                }
            });
        }
    });
    let stats = store.stats();
    assert!(stats.spilled_pages > 0);
    assert_eq!(stats.spill_stalls, 0, "it was slow, and did answer");
    let writers = std::mem::take(&mut device.state().writers);
    assert!(writers.iter().all(|name| name == "demoter"), "{writers:?}");
    device.0.takes.store(0, SeqCst);
    for (_, pool) in &clients {
        assert_eq!(verify(pool, 0..MANY), runs * u64::from(RUN));
    }
}

#[test]
fn nobody_waits_for_a_device_that_never_answers() {
    let device = Device::default();
    let store = store(&device);
    let (_a, of_a) = client(&store, "a");
    let (_b, of_b) = client(&store, "b");
    assert_eq!(refused(&of_b, 0..FEW), 0);
    let _compressor = store.start_compressor().unwrap();
    let demoter = store.start_demoter_with(|| ()).unwrap();
    assert_eq!(refused(&of_a, 0..MANY), 0);
    device.hold();
    // A get of what is there waits, and nothing can be done about that.
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(verify(&of_a, 0..MANY), MANY));
        device.is_waited_for(1);
        without_waiting(&device, "others", || {
            // Memory may have some room.
            let refuses = |index| refused(&of_a, index..index + 1) == 1;
            assert!((MANY..2 * MANY).any(refuses), "all have room");
            // The demoter: from here on it answers nobody.
            device.is_waited_for(2);
            // New ones: with one that is refused an older page goes.
            assert!(refuses(2 * MANY));
            let stalls = store.stats().spill_stalls;
            assert!(stalls > 0, "none has waited in vain");
            assert_eq!(refused(&of_a, 2 * MANY..3 * MANY), MANY);
            assert_eq!(verify(&of_b, 0..FEW), FEW);
            refused(&of_b, FEW..20 * FEW);
            of_b.flush(&OBJECT, FEW, u64::MAX);
            let (c, of_c) = client(&store, "c");
            refused(&of_c, 0..20 * FEW);
            c.destroy_pool(0);
            drop((of_c, c));
            assert_eq!(store.stats().clients, 2);
            assert_eq!(store.stats().spill_stalls, stalls, "somebody has waited");
        });
        device.release();
    });
    // It takes pages again, once it has answered.
    let start = Instant::now();
    let written = || store.stats().spill_written_segments;
    let before = written();
    while written() == before {
        assert!(start.elapsed() < GENEROUS, "nothing is written any more");
        refused(&of_a, MANY..MANY + FEW);
        thread::yield_now();
    }
    assert_eq!(refused(&of_a, MANY..3 * MANY), 0);
    assert_eq!(verify(&of_a, 0..3 * MANY), 3 * MANY);
    assert_eq!(verify(&of_b, 0..FEW), FEW);
    drop(demoter);
    let writers = std::mem::take(&mut device.state().writers);
    assert!(writers.iter().all(|name| name == "demoter"), "{writers:?}");
}

#[test]
fn memory_is_cleaned_while_the_area_is_read_to_be_cleaned() {
    let device = Device::default();
    let store = store(&device);
    let (_client, pool) = client(&store, "a");
    assert_eq!(refused(&pool, 0..MANY), 0);
    for index in (0..MANY).filter(|index| !index.is_multiple_of(3)) {
        pool.flush(&OBJECT, index, 1);
    }
    device.hold();
    thread::scope(|scope| {
        scope.spawn(|| while store.demote_some() {});
        device.is_waited_for(1);
        without_waiting(&device, "cleaning memory", || {
            let cleaned = || store.stats().cleaned_segments;
            let before = cleaned();
            while store.clean_some() {}
            assert!(cleaned() > before, "there is nothing to be cleaned");
        });
        device.release();
    });
    assert_eq!(verify(&pool, 0..MANY), MANY.div_ceil(3));
}
