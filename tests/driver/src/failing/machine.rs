// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A machine with one persistent pool, and what must be in it.

use crate::front_end::FrontEnd;
use crate::request::{GET, OK, PUT, create_pool, destroy_pool, header};
use crate::slots::{BYTES, Buffer, MOST, Slots};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const FLUSH: u16 = 5;
const MISS: u8 = 16;
const NO_MEMORY: u8 = 0x21;
const IO_ERROR: u8 = 0x30;
/// An older page was there.
const PRIOR: u8 = 0x80;

/// Requests under way at the same time.
#[expect(clippy::cast_possible_truncation, reason = "a few")]
pub(crate) const AT_ONCE: usize = MOST as usize;

/// Where answer and page of a request are in its slot, after the header.
const ANSWER: u64 = 0x100;
const PAGE: u64 = 0x1000;

/// How long a request may take: a device is held meanwhile, or an emulated CPU shared.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where another queue is in guest memory, after all slots.
const OTHER: u64 = 0x8_0000;

/// What came of some requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Pages that were kept, or that were the right ones.
    pub(crate) right: u64,
    /// Puts for which there was no memory.
    pub(crate) refused: u64,
    /// Pages that could not be read.
    pub(crate) failed: u64,
    /// Pages that are not there any more.
    pub(crate) missing: u64,
    /// Of the request that took longest.
    pub(crate) slowest: Duration,
}

impl Sum {
    pub(crate) fn add(&mut self, other: Self) {
        self.right += other.right;
        self.refused += other.refused;
        self.failed += other.failed;
        self.missing += other.missing;
        self.slowest = self.slowest.max(other.slowest);
    }
}

pub(crate) struct Machine {
    front_end: FrontEnd,
    slots: Slots,
    /// By index: the seed of the page that is there.
    model: BTreeMap<u64, u64>,
    puts: u64,
}

/// A page that does not compress.
fn content(seed: u64) -> Vec<u8> {
    let mut page = vec![0; 4096];
    fastrand::Rng::with_seed(seed).fill(&mut page);
    page
}

/// Whether there is memory for a pool. If not, that is said.
fn create_if_room(front_end: &mut FrontEnd, pool: u32) -> bool {
    match create_pool(front_end, pool) {
        OK => true,
        NO_MEMORY => false,
        status => panic!("pool {pool} is not made: status {status:#x}"),
    }
}

impl Machine {
    pub(crate) fn connect(socket: &Path, seed: u64) -> Self {
        Self::connect_if_room(socket, seed).unwrap()
    }

    /// The same; `None` if there is no memory for its pool.
    pub(crate) fn connect_if_room(socket: &Path, seed: u64) -> Option<Self> {
        let mut front_end = FrontEnd::connect(socket, BYTES);
        assert_eq!(front_end.share_memory(BYTES), Some(0));
        front_end.turn_to(1, 0);
        front_end.start();
        if !create_if_room(&mut front_end, 0) {
            return None;
        }
        front_end.stop_queue();
        // One request came before.
        let slots = Slots::start(&mut front_end, 1, 0)
            .with_next(1)
            .with_patience(PATIENCE);
        Some(Self {
            front_end,
            slots,
            model: BTreeMap::new(),
            puts: seed << 32,
        })
    }

    /// The indexes of pages that are there.
    pub(crate) fn indexes(&self) -> Vec<u64> {
        self.model.keys().copied().collect()
    }

    /// Whether a page is there.
    pub(crate) fn has(&self, index: u64) -> bool {
        self.model.contains_key(&index)
    }

    /// The answers to requests that were begun.
    fn answers(&mut self, count: usize) -> (Vec<(u8, Vec<u8>)>, Duration) {
        let start = Instant::now();
        self.slots.finish();
        let took = start.elapsed();
        let answers = (0..u16::try_from(count).unwrap()).map(|slot| {
            let at = Slots::place(slot);
            let answer = self.slots.read(at + ANSWER, 17);
            assert_eq!(answer.first(), Some(&OK), "{answer:?}");
            let status = answer.last().copied().unwrap();
            (status, self.slots.read(at + PAGE, 4096))
        });
        (answers.collect(), took)
    }

    fn begin(&self, slot: u16, operation: u16, index: u64) -> (u64, Buffer) {
        let at = Slots::place(slot);
        self.slots.write(at, &header(operation, 0, index, 1));
        self.slots.write(at + ANSWER, &[0xee; 24]);
        (at, Buffer::readable(at, 48))
    }

    /// Puts other pages under these indexes, so many at a time.
    pub(crate) fn put(&mut self, indexes: &[u64], at_once: usize) -> Sum {
        let mut sum = Sum::default();
        for indexes in indexes.chunks(at_once) {
            let mut seeds = Vec::new();
            for (slot, index) in (0u16..).zip(indexes) {
                self.puts += 1;
                seeds.push(self.puts);
                let (at, head) = self.begin(slot, PUT, *index);
                self.slots.write(at + PAGE, &content(self.puts));
                let page = Buffer::readable(at + PAGE, 4096);
                let answer = Buffer::writable(at + ANSWER, 17);
                self.slots.lay(&[head, page, answer]);
            }
            self.slots.begin();
            let (answers, slowest) = self.answers(indexes.len());
            sum.slowest = sum.slowest.max(slowest);
            for ((index, seed), (status, _)) in indexes.iter().zip(seeds).zip(answers) {
                match status & !PRIOR {
                    OK => {
                        self.model.insert(*index, seed);
                        sum.right += 1;
                    }
                    NO_MEMORY => {
                        // An older page has gone with it.
                        self.model.remove(index);
                        sum.refused += 1;
                    }
                    _ => panic!("put of {index}: status {status:#x}"),
                }
            }
        }
        sum
    }

    /// Gets these pages, so many at a time, and compares what comes. Pages that are missing are
    /// forgotten: the caller says whether any may be.
    pub(crate) fn get(&mut self, indexes: &[u64], at_once: usize) -> Sum {
        let mut sum = Sum::default();
        for indexes in indexes.chunks(at_once) {
            self.begin_gets(indexes);
            sum.add(self.finish_gets(indexes));
        }
        sum
    }

    /// Begins to get these pages, [`AT_ONCE`] at most.
    pub(crate) fn begin_gets(&mut self, indexes: &[u64]) {
        for (slot, index) in (0u16..).zip(indexes) {
            let (at, head) = self.begin(slot, GET, *index);
            self.slots.write(at + PAGE, &[0xee; 4096]);
            let answer = Buffer::writable(at + ANSWER, 17);
            let page = Buffer::writable(at + PAGE, 4096);
            self.slots.lay(&[head, answer, page]);
        }
        self.slots.begin();
    }

    /// Waits for pages that it has begun to get, and compares them.
    pub(crate) fn finish_gets(&mut self, indexes: &[u64]) -> Sum {
        let (answers, slowest) = self.answers(indexes.len());
        let mut sum = Sum {
            slowest,
            ..Sum::default()
        };
        for (index, (status, page)) in indexes.iter().zip(answers) {
            sum.add(self.judge(*index, status, &page));
        }
        sum
    }

    /// Stops the virtqueue, as soon as the device does so, and starts it again.
    pub(crate) fn stop_and_start(&mut self) {
        self.front_end.turn_to(1, 0);
        self.front_end.stop_and_start(PATIENCE);
    }

    /// Makes another pool and destroys it, over another virtqueue, if there is memory for it; whether
    /// there is.
    pub(crate) fn make_and_destroy_pool(&mut self) -> bool {
        let front_end = &mut self.front_end;
        front_end.turn_to(2, OTHER);
        front_end.start();
        let is_made = create_if_room(front_end, 1);
        if is_made {
            assert_eq!(destroy_pool(front_end, 1), OK);
        }
        front_end.stop_queue();
        is_made
    }

    fn judge(&mut self, index: u64, status: u8, page: &[u8]) -> Sum {
        let mut sum = Sum::default();
        let seed = *self.model.get(&index).unwrap();
        match status {
            OK => {
                assert!(page == content(seed), "page {index} is another one");
                sum.right = 1;
            }
            IO_ERROR => sum.failed = 1,
            MISS => {
                self.model.remove(&index);
                sum.missing = 1;
            }
            _ => panic!("get of {index}: status {status:#x}"),
        }
        if status != OK {
            let is_untouched = page.iter().all(|byte| *byte == 0xee);
            assert!(is_untouched, "page {index} was not delivered, and is there");
        }
        sum
    }

    /// Gets all pages.
    pub(crate) fn get_all(&mut self) -> Sum {
        self.get(&self.indexes(), AT_ONCE)
    }

    /// All pages are there and right.
    pub(crate) fn is_whole(&mut self) -> u64 {
        let pages = self.model.len() as u64;
        let sum = self.get_all();
        assert_eq!(sum.right, pages, "{sum:?}");
        pages
    }

    /// Flushes these pages.
    pub(crate) fn flush(&mut self, indexes: &[u64]) {
        for indexes in indexes.chunks(AT_ONCE) {
            for (slot, index) in (0u16..).zip(indexes) {
                let (at, head) = self.begin(slot, FLUSH, *index);
                self.slots.lay(&[head, Buffer::writable(at + ANSWER, 16)]);
            }
            self.slots.begin();
            self.answers(indexes.len());
            for index in indexes {
                self.model.remove(index);
            }
        }
    }
}
