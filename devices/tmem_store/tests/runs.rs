// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs of pages that are in a spill area: read together where the kernel can, page by page where it cannot, and
//! the same either way.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{MIB, OBJECT, RAW};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread;
use tempfile::TempDir;
use tmem_store::{
    Area, ClientConfig, PAGE_SIZE, Page, Pool, PoolConfig, PoolKind, Reading, SegmentKey,
    SpillArea, Store, StoreConfig,
};

/// Memory of a store, in bytes, and pages that take eight times as much.
const MEMORY: u64 = 4 * MIB;
const MANY: u64 = 8 * MEMORY / PAGE_SIZE as u64;

/// Lengths of runs: alone, a readahead's, all that are asked for at a time, and more.
const RUNS: [u32; 7] = [1, 2, 8, 33, 64, 65, 200];

/// The `turn`th page with an index.
fn page(index: u64, turn: u64) -> Page {
    common::page(turn * MANY + index, RAW)
}

/// Calls `with` with a store that spills past the page cache, and one that spills to memory.
fn each(with: impl Fn(&Store, &Pool)) {
    let mut together = 0;
    for dir in [
        Path::new(env!("CARGO_TARGET_TMPDIR")),
        Path::new("/dev/shm"),
    ] {
        let dir = TempDir::new_in(dir).unwrap();
        let area = SpillArea::open(&dir.path().join("area"), Some(16 * MEMORY)).unwrap();
        match area.reads_together() {
            Ok(()) => together += 1,
            Err(error) => {
                let known = [ErrorKind::Unsupported, ErrorKind::PermissionDenied];
                assert!(known.contains(&error.kind()), "{error}");
            }
        }
        over(area, &with);
    }
    assert!(together < 2, "there is no direct I/O in memory");
    if together == 0 {
        eprintln!("not tested: the kernel allows no io_uring here, or no direct I/O");
    }
}

/// Calls `with` with a store that spills to `area`.
fn over(area: impl Area + 'static, with: impl Fn(&Store, &Pool)) {
    let config = StoreConfig::with_limit(MEMORY).with_deferred_limit(0);
    let store = Store::new(config.with_spill(area)).unwrap();
    let client = store.add_client(ClientConfig::new("guest", 1 << 30));
    let client = client.unwrap();
    let kind = PoolConfig::new(PoolKind::Persistent);
    client.create_pool(0, kind).unwrap();
    with(&store, &client.pool(0).unwrap());
}

/// Reads that were begun, and not waited for to their end: now, and at most.
#[derive(Debug, Default)]
struct UnderWay {
    now: AtomicU32,
    most: AtomicU32,
}

/// An area of which reads are counted.
#[derive(Debug)]
struct Counted(SpillArea, Arc<UnderWay>);

#[derive(Debug)]
struct Begun(Box<dyn Reading>, Arc<UnderWay>);

impl Reading for Begun {
    fn finish(
        self: Box<Self>,
        bytes: &mut [u8],
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        let Self(reading, under_way) = *self;
        let read = reading.finish(bytes, go_on);
        under_way.now.fetch_sub(1, SeqCst);
        read
    }
}

impl Area for Counted {
    fn name(&self) -> String {
        self.0.name()
    }

    fn identity(&self) -> u64 {
        self.0.identity()
    }

    fn segments(&self) -> u32 {
        self.0.segments()
    }

    fn align(&self) -> usize {
        self.0.align()
    }

    fn renew(&self) -> io::Result<()> {
        self.0.renew()
    }

    fn read(
        &self,
        segment: SegmentKey,
        offset: usize,
        bytes: &mut [u8],
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        self.0.read(segment, offset, bytes, go_on)
    }

    fn reads_ahead(&self) -> bool {
        self.0.reads_ahead()
    }

    fn begin(&self, segment: SegmentKey, offset: usize, len: usize) -> Option<Box<dyn Reading>> {
        let reading = self.0.begin(segment, offset, len)?;
        let now = self.1.now.fetch_add(1, SeqCst) + 1;
        self.1.most.fetch_max(now, SeqCst);
        Some(Box::new(Begun(reading, self.1.clone())))
    }

    fn write(&self, segment: SegmentKey, bytes: &[u8]) -> io::Result<()> {
        self.0.write(segment, bytes)
    }
}

fn fill(store: &Store, pool: &Pool) {
    for index in 0..MANY {
        assert_eq!(pool.put(&OBJECT, index, &page(index, 0)).result, Ok(()));
    }
    let spilled = store.stats().spilled_bytes;
    assert!(spilled > MEMORY, "{spilled} bytes are spilled");
}

#[test]
fn a_run_has_each_page_at_its_place() {
    each(|store, pool| {
        fill(store, pool);
        for (nth, run) in (0..).zip(RUNS) {
            for first in (nth..MANY).step_by(97) {
                let mut seen = 0;
                pool.get_run(&OBJECT, first, run, &mut |at, found| {
                    let index = first + u64::from(at);
                    let found = found.unwrap();
                    assert_eq!(found.is_some(), index < MANY, "page {index}");
                    if let Some(found) = found {
                        assert!(*found == page(index, 0), "page {index} is another one");
                    }
                    seen += 1;
                });
                assert_eq!(seen, run);
            }
        }
    });
}

#[test]
fn reads_of_a_run_are_under_way_together() {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let area = SpillArea::open(&dir.path().join("area"), Some(16 * MEMORY)).unwrap();
    if area.reads_together().is_err() {
        eprintln!("not tested: the kernel allows no io_uring here, or no direct I/O");
        return;
    }
    let under_way = Arc::new(UnderWay::default());
    over(Counted(area, under_way.clone()), |store, pool| {
        fill(store, pool);
        let spilled = || store.stats().spill_read_pages;
        // The oldest are there, until they are read a second time.
        for (first, run, together) in [(0, 1, 0), (100, 8, 8), (200, 64, 64), (300, 200, 64)] {
            let before = spilled();
            under_way.most.store(0, SeqCst);
            pool.get_run(&OBJECT, first, run, &mut |_, found| {
                assert!(found.unwrap().is_some());
            });
            assert_eq!(spilled() - before, u64::from(run));
            let [now, most] = [&under_way.now, &under_way.most].map(|it| it.load(SeqCst));
            assert_eq!((now, most), (0, together), "a run of {run}");
        }
    });
}

#[test]
fn a_run_has_what_was_there_while_it_was_read() {
    each(|store, pool| {
        fill(store, pool);
        let turns: Vec<_> = (0..MANY).map(|_| AtomicU64::new(0)).collect();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let (turns, is_over) = (&turns, &is_over);
            scope.spawn(move || {
                let mut index = 1;
                while !is_over.load(SeqCst) {
                    index = (index * 5 + 7) % MANY;
                    let turn = turns[usize::try_from(index).unwrap()].load(SeqCst) + 1;
                    let put = pool.put_or_keep(&OBJECT, index, &page(index, turn));
                    assert_eq!(put.result, Ok(()), "page {index}");
                    turns[usize::try_from(index).unwrap()].store(turn, SeqCst);
                }
            });
            let readers: Vec<_> = (0..2_u64)
                .map(|reader| {
                    scope.spawn(move || {
                        for round in 0..150 {
                            let run = RUNS[usize::try_from(round).unwrap() % RUNS.len()];
                            let first = (reader * 977 + round * 1009) % (MANY - 200);
                            compare(pool, turns, first, run);
                        }
                    })
                })
                .collect();
            let done: Vec<_> = readers
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect();
            is_over.store(true, SeqCst);
            assert!(
                done.iter().all(Result::is_ok),
                "a reader found something wrong"
            );
        });
    });
}

/// Whether each page of a run is one that was there at some time after the run was begun.
fn compare(pool: &Pool, turns: &[AtomicU64], first: u64, run: u32) {
    let turn = |at: u32| turns[usize::try_from(first + u64::from(at)).unwrap()].load(SeqCst);
    let before: Vec<_> = (0..run).map(turn).collect();
    pool.get_run(&OBJECT, first, run, &mut |at, found| {
        let index = first + u64::from(at);
        let found = found
            .unwrap()
            .unwrap_or_else(|| panic!("page {index} is gone"));
        // A put is there before it is counted.
        let mut may = before[usize::try_from(at).unwrap()]..=turn(at) + 1;
        assert!(
            may.any(|turn| *found == page(index, turn)),
            "page {index} is another one"
        );
    });
}
