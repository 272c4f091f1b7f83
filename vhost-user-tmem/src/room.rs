// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Keeps the daemon within its control group: before the kernel has to kill it, the
//! store takes no more, and gives ephemeral pages back.
//!
//! The store is not alone in the group. A frame of a guest that a GET is the first to
//! write to is charged to the daemon, which may go as fast as memory can be written. So
//! requests are counted: each has a part of what was left at the last look, and
//! when that is used up, the next look is due.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tmem_cli::size;
use tmem_host::group::{Group, Watched};
use tmem_store::{PAGE_SIZE, Store};
use virtio_tmem::device::MAX_RUN;

/// Bytes that a request can have charged to the group.
const REQUEST: u64 = MAX_RUN as u64 * PAGE_SIZE as u64;

/// Between two looks, at least, as long as few requests come.
const PAUSE: Duration = Duration::from_micros(250);

/// Requests that need no look within the pause.
const FEW: u32 = 2;

/// Longest that requests are held up for ephemeral pages that are to go. The thread that
/// evicts may itself wait for memory of the group, or for a CPU.
const HELD_UP: Duration = Duration::from_millis(100);

/// Between two tries to evict meanwhile.
const TRY: Duration = Duration::from_micros(500);

/// Between two lines in the log, at least.
const QUIET: Duration = Duration::from_secs(10);

/// The room in the daemon's control group.
#[derive(Debug)]
pub struct Room {
    /// Queues' threads look, and open no files.
    group: Option<Watched>,
    store: Store,
    is_limited: AtomicBool,
    /// Requests until the next look.
    requests: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    look: Option<Instant>,
    /// Requests without a look since.
    passed: u32,
    line: Option<Instant>,
    is_short: bool,
}

impl Room {
    /// For `store`, in the control group of this process.
    pub fn new(store: Store) -> Self {
        let room = Self {
            group: Group::own().map(Watched::new),
            store,
            is_limited: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            last: Mutex::default(),
        };
        room.look();
        room
    }

    /// To be called before each request.
    pub fn count(&self) {
        if !self.is_limited.load(Relaxed) {
            return;
        }
        let left = self
            .requests
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if left.is_err() {
            self.look();
        }
    }

    /// Whether there was hardly any room at the last look.
    pub fn is_short(&self) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_short
    }

    /// Looks how much room there is; to be called every so often.
    pub fn look(&self) {
        // Who finds another thread looking waits for it: that thread may not run for a
        // while, and requests would go on without end meanwhile.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_soon = last.look.is_some_and(|look| look.elapsed() < PAUSE);
        if is_soon && last.passed < FEW {
            last.passed += 1;
            return;
        }
        (last.look, last.passed) = (Some(Instant::now()), 0);
        let found = self.group.as_ref();
        let found = found.and_then(|group| Some((group.limit()?, group.room()?)));
        self.is_limited.store(found.is_some(), Relaxed);
        let Some((limit, room)) = found else {
            self.store.limit_for_now(u64::MAX);
            last.is_short = false;
            return;
        };
        let plan = Plan::of(limit, room, self.store.held_bytes());
        self.give_back(plan);
        self.requests.store(plan.requests, Relaxed);
        let is_new = plan.is_short && !last.is_short;
        last.is_short = plan.is_short;
        if is_new && last.line.is_none_or(|line| line.elapsed() >= QUIET) {
            last.line = Some(Instant::now());
            log::warn!(
                "the control group of the daemon has {} left of {}: puts are refused and ephemeral pages given back; give the group more, or a smaller --memory-limit",
                size::show(room),
                size::show(limit)
            );
        }
    }

    /// Limits the store. Where memory is short, this returns once what can go is gone: each
    /// request brings more.
    fn give_back(&self, plan: Plan) {
        let start = Instant::now();
        while self.store.limit_for_now(plan.store) && plan.is_short && start.elapsed() < HELD_UP {
            std::thread::sleep(TRY);
        }
    }
}

/// What may be done until the next look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// Most bytes for the store.
    store: u64,
    requests: u64,
    is_short: bool,
}

impl Plan {
    /// With `room` left of `limit` bytes, while the store holds `held`.
    fn of(limit: u64, room: u64, held: u64) -> Self {
        /// What is kept free: for threads that go on during a look, for memory that is
        /// not the store's, and for programs' own pages, which count as caches of files
        /// but do not go.
        const LEAST: u64 = 8 << 20;
        const MOST: u64 = 32 << 20;
        let reserve = (limit / 32).clamp(LEAST, MOST);
        match room.checked_sub(reserve) {
            // The store may have more than requests bring until the next look.
            Some(spare) => Self {
                store: held.saturating_add(spare / 4 * 3),
                requests: spare / 4 / REQUEST,
                is_short: false,
            },
            None => Self {
                store: held.saturating_sub(reserve - room),
                requests: 0,
                is_short: true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_store_may_grow_by_less_than_there_is_room() {
        let plan = Plan::of(1024 * MIB, 432 * MIB, 100 * MIB);
        let expected = Plan {
            store: 400 * MIB,
            requests: 100,
            is_short: false,
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn near_the_limit_the_store_gives_back_what_is_missing() {
        let plan = Plan::of(1024 * MIB, 2 * MIB, 100 * MIB);
        let expected = Plan {
            store: 70 * MIB,
            requests: 0,
            is_short: true,
        };
        assert_eq!(plan, expected);
        assert_eq!(Plan::of(1024 * MIB, 0, MIB).store, 0);
        // A small group keeps some, too.
        assert!(Plan::of(64 * MIB, 7 * MIB, MIB).is_short);
        assert!(!Plan::of(64 * MIB, 8 * MIB, MIB).is_short);
    }
}
