// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How much one operation may do to make room.

use crate::budget::{Demotion, Waited};
use std::time::{Duration, Instant};

/// What an operation may still do to make room.
#[derive(Debug)]
pub(crate) struct Effort {
    /// Looks for a block to evict; each costs about a microsecond.
    looks: u32,
    /// Pages moved that are not yet paid for.
    moves: u32,
    /// Pages to compress in line; each costs about ten.
    pages: u64,
    /// Writes to the spill area. They are not paid with looks: what was spent on memory that did
    /// not come back must not keep pages from going there.
    writes: u32,
    /// May wait for locks in pools of other clients.
    patient: bool,
    /// Times to sleep for somebody who is in the way.
    sleeps: u32,
    /// Somebody is.
    held_up: bool,
    /// Memory is short.
    urgent: bool,
    /// Little is worth being done, too.
    thorough: bool,
    /// Turns of the demoter that had ended when memory was last looked for.
    turns: Option<u64>,
    /// For how long it may still be waited for.
    waits: Duration,
}

impl Effort {
    /// For the put of one page, or the creation of a pool.
    pub(crate) fn one() -> Self {
        Self {
            looks: 1024,
            pages: 128,
            writes: 16,
            ..Self::run()
        }
    }

    /// For a run of pages.
    pub(crate) fn run() -> Self {
        Self {
            looks: 8192,
            pages: 1024,
            writes: 128,
            sleeps: Self::SLEEPS,
            patient: false,
            ..Self::background()
        }
    }

    /// For a piece of the background thread's work.
    pub(crate) fn background() -> Self {
        Self {
            looks: 4096,
            moves: 0,
            pages: 512,
            writes: 64,
            patient: true,
            sleeps: 0,
            held_up: false,
            urgent: true,
            thorough: true,
            turns: None,
            waits: Self::WAITS,
        }
    }

    /// For what is done because there is time for it.
    pub(crate) fn tidying() -> Self {
        Self {
            urgent: false,
            thorough: false,
            ..Self::background()
        }
    }

    /// For what is done only when a client is at rest.
    pub(crate) fn at_rest() -> Self {
        Self {
            thorough: true,
            ..Self::tidying()
        }
    }

    /// Whether memory is short.
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Whether little is worth being done, too.
    pub(crate) fn is_thorough(&self) -> bool {
        self.thorough
    }

    /// Whether locks in pools of other clients may be waited for.
    pub(crate) fn is_patient(&self) -> bool {
        self.patient
    }

    /// Whether blocks may still be looked for.
    pub(crate) fn is_left(&self) -> bool {
        self.looks > 0
    }

    /// Whether pages may still be compressed.
    pub(crate) fn may_compress(&self) -> bool {
        self.pages > 0
    }

    /// Pays for a look; whether it may be done.
    pub(crate) fn look(&mut self) -> bool {
        let may = self.is_left();
        self.looks = self.looks.saturating_sub(1);
        may
    }

    /// Pages that may be moved, each of which costs a part of a look.
    pub(crate) fn moves(&self) -> u32 {
        self.looks.saturating_mul(Self::MOVES)
    }

    /// Pays for a page that was moved.
    pub(crate) fn moved(&mut self) {
        self.moves += 1;
        if self.moves == Self::MOVES {
            self.moves = 0;
            self.look();
        }
    }

    /// Pages that are moved in the time of a look.
    const MOVES: u32 = 8;

    /// Lets others run for a moment; whether it may be done.
    pub(crate) fn wait(&mut self) -> bool {
        /// Looks that take as long.
        const COST: u32 = 32;
        let may = self.is_left();
        if may {
            self.looks = self.looks.saturating_sub(COST);
            crate::sync::thread::yield_now();
        }
        may
    }

    /// Pays for a write to the spill area; whether it may be done.
    pub(crate) fn write(&mut self) -> bool {
        let may = self.writes > 0;
        self.writes = self.writes.saturating_sub(1);
        may
    }

    /// How long an operation waits for the demoter in all: for a run of 128 pages and as many of some other
    /// clients, where a segment takes 100 ms.
    const WAITS: Duration = Duration::from_secs(5);

    /// So many turns of the demoter have ended, and memory is looked for next.
    pub(crate) fn looks_after(&mut self, turns: u64) {
        self.turns = Some(turns);
    }

    /// Waits for the demoter.
    pub(crate) fn wait_for(&mut self, demotion: &Demotion) -> Waited {
        let seen = self.turns.take().unwrap_or_else(|| demotion.turns());
        let start = Instant::now();
        let waited = demotion.wait(seen, self.waits);
        self.waits = self.waits.saturating_sub(start.elapsed());
        waited
    }

    /// Memory would be there, were it not for a thread that cleans or reads the client's own, or
    /// were deferred pages compressed. What others read is not slept for: they may be long about
    /// it.
    pub(crate) fn held_up(&mut self) {
        self.held_up = true;
    }

    const SLEEPS: u32 = 24;

    /// Sleeps when all else is tried and others were in the way, or are at it. Whether it is worth
    /// trying again. Some 10 ms in all: a thread that lost its CPU has it again by then.
    pub(crate) fn sleep(&mut self) -> bool {
        /// For the next try.
        const LOOKS: u32 = 64;
        const PAGES: u64 = 16;
        let may = self.held_up && self.sleeps > 0;
        if may {
            let done = Self::SLEEPS - self.sleeps;
            crate::sync::thread::sleep(Duration::from_micros(50 << done.min(3)));
            self.sleeps -= 1;
            self.held_up = false;
            self.looks = self.looks.max(LOOKS);
            self.pages = self.pages.max(PAGES);
        }
        may
    }

    /// Pays for pages that were compressed.
    pub(crate) fn compressed(&mut self, pages: u64) {
        self.pages = self.pages.saturating_sub(pages);
    }
}
