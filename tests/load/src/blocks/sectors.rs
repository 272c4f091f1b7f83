// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What each sector must hold, also while it is being written.

use crate::content;
use crate::content::CELL;
use crate::content::Name;
use crate::content::mix;
use serde::Deserialize;
use serde::Serialize;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Bytes in a sector.
const SECTOR: usize = 512;

/// The file's number that a device's content has.
const FILE: u32 = 0;

/// What a sector holds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum State {
    /// What was written in this generation.
    Written,
    /// Zeros, since this generation.
    Zeros,
    /// Zeros, or what any generation up to this one wrote: it was discarded,
    /// or never written.
    Any,
}

/// A sector after its latest change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sector {
    /// Raised with each change, over the whole device.
    pub(super) generation: u64,
    /// What it holds.
    pub(super) state: State,
}

/// The state is in the lowest bits, so that one word tells all.
const STATES: [State; 3] = [State::Any, State::Written, State::Zeros];

impl Sector {
    fn pack(self) -> u64 {
        let state = STATES.iter().position(|state| *state == self.state);
        self.generation << 2 | state.unwrap_or_default() as u64
    }

    fn unpack(word: u64) -> Self {
        let state = usize::try_from(word & 3).unwrap_or_default();
        Self {
            generation: word >> 2,
            state: STATES.get(state).copied().unwrap_or(State::Any),
        }
    }
}

/// A change that may be under way.
#[derive(Debug, Default)]
struct Entry {
    /// The latest change that is done.
    done: AtomicU64,
    /// The latest change that was begun.
    begun: AtomicU64,
    /// The latest change that was begun and did not write content.
    emptied: AtomicU64,
}

/// All sectors. A sector is changed by one thread only, and read by any.
#[derive(Debug)]
pub(super) struct Sectors {
    entries: Vec<Entry>,
    generation: AtomicU64,
}

/// What a read may find in a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    /// As it was when the read began.
    pub(super) from: Sector,
    /// The latest change begun when it ended.
    pub(super) to: Sector,
    /// Whether it was empty in between.
    pub(super) emptied: bool,
}

impl Sectors {
    /// `count` sectors that may hold anything of ours, or zeros, or anything
    /// at all: they must be written before they are read.
    pub(super) fn new(count: usize) -> Self {
        Self {
            entries: (0..count).map(|_| Entry::default()).collect(),
            generation: AtomicU64::new(0),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// A change of `count` sectors from `first` on begins; gives back its
    /// generation.
    pub(super) fn begin(&self, first: usize, count: usize, state: State) -> Sector {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let sector = Sector { generation, state };
        for entry in self.range(first, count) {
            if state != State::Written {
                entry.emptied.store(sector.pack(), Ordering::Relaxed);
            }
            // Whoever reads what the device is told after this must see it.
            entry.begun.store(sector.pack(), Ordering::SeqCst);
        }
        sector
    }

    /// The change is done.
    pub(super) fn end(&self, first: usize, count: usize, sector: Sector) {
        for entry in self.range(first, count) {
            entry.done.store(sector.pack(), Ordering::SeqCst);
        }
    }

    /// The sectors as they are when a read begins.
    pub(super) fn before(&self, first: usize, count: usize) -> Vec<Sector> {
        self.range(first, count)
            .iter()
            .map(|entry| Sector::unpack(entry.done.load(Ordering::SeqCst)))
            .collect()
    }

    /// What a read that has ended may have found, if `before` is how the
    /// sectors were when it began.
    pub(super) fn after(&self, first: usize, before: &[Sector]) -> Vec<Allowed> {
        self.range(first, before.len())
            .iter()
            .zip(before)
            .map(|(entry, from)| {
                let emptied = Sector::unpack(entry.emptied.load(Ordering::SeqCst));
                Allowed {
                    from: *from,
                    to: Sector::unpack(entry.begun.load(Ordering::SeqCst)),
                    emptied: emptied.generation > from.generation,
                }
            })
            .collect()
    }

    fn range(&self, first: usize, count: usize) -> &[Entry] {
        self.entries.get(first..first + count).unwrap_or_default()
    }
}

/// The bytes of a sector at the byte `at` of the device.
pub(super) fn fill(seed: u32, generation: u64, at: u64, to: &mut [u8]) {
    let name = Name {
        seed,
        file: FILE,
        generation,
    };
    content::fill(name, at, to);
}

impl Allowed {
    /// A sector that nobody changes.
    pub(super) fn settled(sector: Sector) -> Self {
        Self {
            from: sector,
            to: sector,
            emptied: false,
        }
    }

    /// What is wrong with `found`, a sector read at the byte `at`; words for a
    /// message.
    pub(super) fn judge(&self, seed: u32, at: u64, found: &[u8]) -> Option<String> {
        // Nothing is known about it yet.
        if self.from.generation == 0 {
            return None;
        }
        let settled = self.from.generation == self.to.generation;
        if settled && self.from.state == State::Written {
            let mut expected = [0; SECTOR];
            fill(seed, self.from.generation, at, &mut expected);
            let wrong = found.iter().zip(&expected).position(|(a, b)| a != b)?;
            return Some(self.describe(at, wrong, found));
        }
        for (number, cell) in found.chunks(CELL).enumerate() {
            let from = number * CELL;
            let is_zero = cell.iter().all(|byte| *byte == 0);
            let fits = match content::claim(cell) {
                Some(claim) => {
                    let generation = claim.name.generation;
                    let place = claim.at == at + from as u64 && claim.name.seed == seed;
                    // What was discarded may be as it was once.
                    let oldest = match self.from.state {
                        State::Written => self.from.generation,
                        State::Zeros => self.from.generation + 1,
                        State::Any => 0,
                    };
                    let oldest = if self.emptied { 0 } else { oldest };
                    place && (oldest..=self.to.generation).contains(&generation)
                }
                None if is_zero => self.emptied || self.from.state != State::Written,
                // Torn by a write that goes on.
                None => !settled,
            };
            if !fits {
                return Some(self.describe(at, from, found));
            }
        }
        None
    }

    fn describe(&self, at: u64, wrong: usize, found: &[u8]) -> String {
        let state = |sector: Sector| match sector.state {
            State::Written => format!("generation {}", sector.generation),
            State::Zeros => format!("zeros since generation {}", sector.generation),
            State::Any => format!("anything up to generation {}", sector.generation),
        };
        let mut expected = state(self.from);
        if self.to != self.from {
            expected = format!("{expected} to {}", state(self.to));
        }
        let begin = found.len().min(wrong);
        format!(
            "sector {} (block {}), byte {begin}: expected {expected}, found {}",
            at / SECTOR as u64,
            at / 4096,
            content::describe(found, wrong)
        )
    }
}

/// A place: often in a part that moves now and then, and most often in a few
/// pages, where reads and writes of all threads meet.
pub(super) fn place(random: &mut fastrand::Rng, seed: u32, epoch: u64, size: u64) -> u64 {
    /// Bytes that are busy.
    const BUSY: u64 = 1 << 20;
    /// Bytes where writes and reads meet all the time.
    const HOT: u64 = 32 << 10;
    if size <= BUSY {
        return random.u64(0..size);
    }
    let from = mix(u64::from(seed) ^ epoch) % (size - BUSY);
    match random.u32(0..4) {
        0 => random.u64(0..size),
        1 => from + random.u64(0..BUSY),
        _ => mix(u64::from(seed)) % (size - BUSY) + random.u64(0..HOT),
    }
}
