// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Staged pages: what is read is what was written last, the device gets one put of a page at a time,
//! and in the end has what is needed, and nothing else.

use crate::driver::runs::{Place, Room, Runs};
use crate::sys::bio::Pages;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::collections::{BTreeMap, BTreeSet};

const PAGES: u64 = 24;
const RUNS: usize = 5;
const LONGEST: u32 = 4;
/// Steps of a schedule.
const STEPS: usize = 120;

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u64, u32, bool),
    Free(u64),
    Read(u64, u32),
    Close,
    Send,
    /// The device answers one of the runs that are under way, and takes it or does not.
    Answer(usize, bool),
    Retry,
    /// The device is told of some of the pages that nobody needs.
    Flush,
}

/// What a driver could do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A run that the device refused is let go.
    LosesRefused,
    /// What was dropped while it was under way is not told afterwards.
    ForgetsDropped,
    /// The device is told of a page while it is under way.
    TellsAtOnce,
    /// A write does not wait for what is under way.
    Overtakes,
    /// A read goes to the device first.
    ReadsDevice,
    /// What was refused is not sent again.
    NeverRetries,
}

struct World {
    fault: Option<Fault>,
    runs: Runs,
    memory: Vec<[u64; LONGEST as usize]>,
    /// What the guest needs, by page: the version that it wrote last.
    guest: BTreeMap<u64, u64>,
    device: BTreeMap<u64, u64>,
    /// Pages that the device is yet to be told of.
    pending: BTreeSet<u64>,
    /// Runs that were sent, with what was in them.
    sent: Vec<(usize, Pages, [u64; LONGEST as usize])>,
    version: u64,
}

fn all(pages: Pages) -> std::ops::Range<u64> {
    pages.index..pages.index + u64::from(pages.count)
}

fn pages(first: u64, count: u32) -> Pages {
    let index = first % PAGES;
    let count = u64::from(count).clamp(1, PAGES - index);
    Pages {
        index,
        count: u32::try_from(count).unwrap(),
    }
}

impl World {
    fn new(fault: Option<Fault>) -> Self {
        Self {
            fault,
            runs: Runs::new(RUNS).unwrap(),
            memory: vec![[0; LONGEST as usize]; RUNS],
            guest: BTreeMap::new(),
            device: BTreeMap::new(),
            pending: BTreeSet::new(),
            sent: Vec::new(),
            version: 0,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn is_under_way(&self, page: u64) -> bool {
        self.sent
            .iter()
            .any(|(_, run, _)| all(*run).contains(&page))
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Write(first, count, may_grow) => self.write(pages(first, count), may_grow)?,
            Step::Free(page) => self.free(page % PAGES)?,
            Step::Read(first, count) => self.read(pages(first, count))?,
            Step::Close => self.runs.close(),
            Step::Send => self.send()?,
            Step::Answer(at, takes) => self.answer(at, takes)?,
            Step::Retry if self.has(Fault::NeverRetries) => (),
            Step::Retry => self.runs.retry(),
            Step::Flush => self.flush(),
        }
        Ok(())
    }

    fn write(&mut self, pages: Pages, may_grow: bool) -> Result<(), TestCaseError> {
        match self.runs.room(pages, may_grow, LONGEST) {
            Room::Staged => (),
            Room::Waits if self.has(Fault::Overtakes) => (),
            Room::Waits => {
                prop_assert!(all(pages).any(|page| self.is_under_way(page)));
                return Ok(());
            }
            // The guest keeps what it wanted to write, and has lost nothing.
            Room::Refused => return Ok(()),
            Room::Unstaged => {
                // The device answers at once.
                for page in all(pages) {
                    self.version += 1;
                    self.guest.insert(page, self.version);
                    self.device.insert(page, self.version);
                    self.pending.remove(&page);
                }
                return Ok(());
            }
        }
        let mut done = 0;
        while done < pages.count {
            let first = pages.index + u64::from(done);
            let place = self.runs.place(first, pages.count - done, LONGEST);
            let Some(Place { run, at, count }) = place else {
                prop_assert!(self.fault.is_some(), "there was said to be room");
                return Ok(());
            };
            prop_assert!(count > 0 && done + count <= pages.count);
            for i in 0..count {
                self.version += 1;
                self.guest.insert(first + u64::from(i), self.version);
                self.memory[run][(at + i) as usize] = self.version;
            }
            done += count;
        }
        Ok(())
    }

    fn free(&mut self, page: u64) -> Result<(), TestCaseError> {
        // Slots that are not in use are not freed.
        if self.guest.remove(&page).is_none() {
            return Ok(());
        }
        let may_tell = self.runs.free(page);
        if may_tell || self.has(Fault::TellsAtOnce) {
            // The device does not order them.
            prop_assert!(!self.is_under_way(page), "page {page} is put and flushed");
            self.told(page);
        }
        Ok(())
    }

    fn told(&mut self, page: u64) {
        if self.device.contains_key(&page) {
            self.pending.insert(page);
        }
    }

    fn read(&mut self, mut pages: Pages) -> Result<(), TestCaseError> {
        while pages.count > 0 {
            let (count, place) = self.runs.alike(pages);
            prop_assert!(count > 0 && count <= pages.count);
            for i in 0..count {
                let page = pages.index + u64::from(i);
                let Some(newest) = self.guest.get(&page) else {
                    continue;
                };
                let found = match place {
                    Some(place) if !self.has(Fault::ReadsDevice) => {
                        Some(self.memory[place.run][(place.at + i) as usize])
                    }
                    _ => self.device.get(&page).copied(),
                };
                prop_assert_eq!(found, Some(*newest), "page {}", page);
            }
            pages.index += u64::from(count);
            pages.count -= count;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), TestCaseError> {
        let Some((run, pages)) = self.runs.send() else {
            return Ok(());
        };
        prop_assert!(pages.count > 0 && pages.count <= LONGEST);
        for page in all(pages) {
            prop_assert!(!self.is_under_way(page), "page {page} is put twice");
            self.pending.remove(&page);
        }
        self.sent.push((run, pages, self.memory[run]));
        Ok(())
    }

    fn answer(&mut self, at: usize, takes: bool) -> Result<(), TestCaseError> {
        if self.sent.is_empty() {
            return Ok(());
        }
        let (run, pages, content) = self.sent.remove(at % self.sent.len());
        prop_assert_eq!(content, self.memory[run], "was changed under way");
        for (i, page) in all(pages).enumerate() {
            if takes {
                self.device.insert(page, content[i]);
            } else {
                // A refused put removes what was there.
                self.device.remove(&page);
            }
        }
        let took = takes || self.has(Fault::LosesRefused);
        let dropped = self.runs.ended(run, took);
        if !self.has(Fault::ForgetsDropped) {
            for page in dropped {
                self.told(page);
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        for page in std::mem::take(&mut self.pending) {
            self.device.remove(&page);
        }
    }

    /// The device takes all that there is.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..2 {
            self.step(Step::Retry)?;
            self.step(Step::Close)?;
            for _ in 0..RUNS {
                self.step(Step::Send)?;
            }
            while !self.sent.is_empty() {
                self.step(Step::Answer(0, true))?;
            }
        }
        self.step(Step::Flush)?;
        prop_assert_eq!(self.runs.in_use(), 0);
        prop_assert_eq!(&self.device, &self.guest);
        Ok(())
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..PAGES, 1..7u32, prop::bool::weighted(0.8)).prop_map(|(at, n, grow)| Step::Write(at, n, grow)),
        4 => (0..PAGES).prop_map(Step::Free),
        4 => (0..PAGES, 1..7u32).prop_map(|(at, n)| Step::Read(at, n)),
        2 => Just(Step::Close),
        3 => Just(Step::Send),
        3 => (any::<usize>(), prop::bool::weighted(0.7)).prop_map(|(at, takes)| Step::Answer(at, takes)),
        1 => Just(Step::Retry),
        1 => Just(Step::Flush),
    ];
    vec(step, 1..STEPS)
}

fn run(steps: Vec<Step>, fault: Option<Fault>) -> Result<(), TestCaseError> {
    let mut world = World::new(fault);
    for step in steps {
        world.step(step)?;
    }
    for page in 0..PAGES {
        world.read(pages(page, 1))?;
    }
    world.settle()
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_staged_is_neither_lost_nor_stale(steps in steps()) {
        run(steps, None)?;
    }

    /// When the disk is closed, all that is under way ends, and nothing is left.
    #[test]
    fn what_is_forgotten_ends(steps in steps()) {
        let mut world = World::new(None);
        for step in steps {
            world.step(step)?;
        }
        world.runs.forget();
        prop_assert_eq!(world.runs.in_use(), world.sent.len());
        prop_assert!(world.runs.send().is_none() && world.runs.kept() == 0 && !world.runs.has_open());
        while !world.sent.is_empty() {
            world.step(Step::Answer(0, false))?;
        }
        prop_assert_eq!(world.runs.in_use(), 0);
    }
}

macro_rules! faults {
    ($($name:ident: $fault:ident,)*) => {$(
        #[test]
        fn $name() {
            let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
            let mut runner = TestRunner::new_with_rng(config(), rng);
            let found = runner.run(&steps(), |steps| run(steps, Some(Fault::$fault)));
            assert!(matches!(found, Err(TestError::Fail(..))), "nobody noticed");
        }
    )*};
}

faults! {
    a_refused_run_that_is_let_go_is_found: LosesRefused,
    dropped_pages_that_stay_are_found: ForgetsDropped,
    a_flush_that_a_put_follows_is_found: TellsAtOnce,
    a_write_that_overtakes_is_found: Overtakes,
    a_read_that_asks_the_device_is_found: ReadsDevice,
    refused_runs_that_stay_are_found: NeverRetries,
}
