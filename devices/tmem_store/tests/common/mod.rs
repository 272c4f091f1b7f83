// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the tests share: stores, and pages that say what they should be.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unreachable_pub, reason = "tests are not crates that others use")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tmem_store::{
    Client, ClientConfig, Created, Get, ObjectId, PAGE_SIZE, Page, Pool, PoolConfig, PoolKind, Put,
    Recompression, Refused, Store, StoreConfig,
};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const OBJECT: ObjectId = [7; 24];

/// When pages are compressed. The files of tests run in each mode: by
/// themselves in line, and as parts of the crates `deferred` and `background`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When they are put.
    InLine,
    /// When memory is needed: nobody looks after them before.
    Deferred,
    /// At any time, by a thread that never rests.
    Background,
}

pub fn mode() -> Mode {
    match env!("CARGO_CRATE_NAME") {
        "deferred" => Mode::Deferred,
        "background" => Mode::Background,
        _ => Mode::InLine,
    }
}

/// A store, and the thread that compresses its pages in the background.
#[derive(Debug)]
pub struct TestStore {
    store: Store,
    recompresses: Arc<Mutex<bool>>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TestStore {
    /// Whether the thread, if there is one, also recompresses pages: what is held then
    /// changes at any time. Waits for the end of what it does.
    pub fn recompress_in_background(&self, on: bool) {
        *self.recompresses.lock().unwrap() = on;
    }
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        self.done.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A store of the test's mode.
pub fn store(memory_limit: u64) -> TestStore {
    let mut config = StoreConfig::with_limit(memory_limit);
    if mode() == Mode::InLine {
        config.deferred_limit = 0;
    }
    let store = Store::new(config).unwrap();
    // Pages are cold at once.
    store.set_recompression(Recompression {
        after: Duration::ZERO,
        cpu_percent: 100,
    });
    let done = Arc::new(AtomicBool::new(false));
    let recompresses = Arc::new(Mutex::new(false));
    let thread = (mode() == Mode::Background).then(|| {
        let (store, done) = (store.clone(), done.clone());
        let recompresses = recompresses.clone();
        thread::spawn(move || {
            while !done.load(Relaxed) {
                // Locked until it is done.
                let recompresses = recompresses.lock().unwrap();
                let recompressed = if *recompresses {
                    store.recompress_some()
                } else {
                    0
                };
                drop(recompresses);
                if store.compress_some(4) + recompressed == 0 {
                    thread::sleep(Duration::from_micros(20));
                }
            }
        })
    });
    TestStore {
        store,
        recompresses,
        done,
        thread,
    }
}

/// Has all pages compressed, so that no thread moves them any more.
pub fn settle(store: &Store) {
    while store.stats().deferred_pages > 0 {
        store.compress_some(64);
    }
}

/// Waits for what a thread in the background is about to do.
pub fn until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "still not so after a minute");
        thread::sleep(Duration::from_micros(100));
    }
}

pub fn client(store: &Store, quota: u64) -> Client {
    store
        .add_client(ClientConfig::new("test", quota).with_max_pools(8))
        .unwrap()
}

pub fn pool(client: &Client, id: u32, kind: PoolKind) -> Pool {
    pool_with_quota(client, id, kind, None)
}

pub fn pool_with_quota(client: &Client, id: u32, kind: PoolKind, quota: Option<u64>) -> Pool {
    let created = client.create_pool(id, PoolConfig::new(kind).with_quota(quota));
    assert_eq!(created, Ok(Created::New));
    client.pool(id).unwrap()
}

pub fn object(number: u64) -> ObjectId {
    let mut object = [0; 24];
    object[..8].copy_from_slice(&number.to_le_bytes());
    object
}

/// How well a page compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texture {
    /// One word, repeated.
    Same,
    /// Digits at random: smaller with zstd than with LZ4.
    Digits,
    /// To about this part in 16.
    Sixteenths(u8),
}

pub const RAW: Texture = Texture::Sixteenths(16);
pub const HALF: Texture = Texture::Sixteenths(8);

/// A page whose content follows from `seed` and is different for each.
pub fn page(seed: u64, texture: Texture) -> Page {
    let mut page = [0; PAGE_SIZE];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let random = match texture {
        Texture::Same => {
            for word in page.chunks_exact_mut(8) {
                word.copy_from_slice(&seed.to_le_bytes());
            }
            return page;
        }
        Texture::Digits => {
            for byte in &mut page {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                *byte = b'0' + ((state >> 40) % 10) as u8;
            }
            return page;
        }
        Texture::Sixteenths(part) => PAGE_SIZE * usize::from(part) / 16,
    };
    for word in page[..random].chunks_exact_mut(8) {
        // xorshift64*, which never repeats a word within a page.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        word.copy_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    page[PAGE_SIZE - 8..].copy_from_slice(&seed.to_le_bytes());
    page
}

pub const ACCEPTED: Put = Put {
    result: Ok(()),
    prior_removed: false,
};

pub const REPLACED: Put = Put {
    result: Ok(()),
    prior_removed: true,
};

pub const fn refused(why: Refused) -> Put {
    Put {
        result: Err(why),
        prior_removed: false,
    }
}

/// What a get finds; on a miss the buffer must be as it was.
pub fn get(pool: &Pool, object: &ObjectId, index: u64) -> Option<Box<Page>> {
    let mut buffer = Box::new([0xa5; PAGE_SIZE]);
    match pool.get(object, index, &mut buffer) {
        Get::Hit => Some(buffer),
        Get::Miss => {
            assert_eq!(*buffer, [0xa5; PAGE_SIZE], "a miss wrote to the buffer");
            None
        }
        Get::Lost => panic!("page {index} is lost"),
    }
}

/// Puts pages of consecutive indexes until one is refused; how many were
/// accepted, and why the next was not.
pub fn fill(pool: &Pool, object: &ObjectId, texture: Texture) -> (u64, Refused) {
    for index in 0.. {
        match pool.put(object, index, &page(index, texture)).result {
            Ok(()) => {}
            Err(why) => return (index, why),
        }
    }
    unreachable!("the store has no end")
}
