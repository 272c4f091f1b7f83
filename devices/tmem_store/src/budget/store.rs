// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What all clients of a store share: its memory, and how much of it may be held.

use super::WakeUp;
use super::demotion::Demotion;
use super::ledger::Ledger;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::tier::{Arena, PIECE, SEGMENT};

/// Deferred pages that are worth a wake-up. Fewer (a quarter of a MiB in the
/// whole store) may wait for more to come, so that a put rarely pays for it.
const WORTHWHILE: u64 = 64;

/// Most memory that recompressing a segment takes before its own comes back: heads end
/// somewhere in a piece, and segments have no room for the last page.
pub(crate) const LOAN: u64 = (SEGMENT + 2 * PIECE) as u64;

/// Bytes that only moving and recompressing entries may take.
const RESERVE: u64 = SEGMENT as u64 + LOAN;

/// The part of quota or limit that is left when memory is tight.
pub(super) const TIGHT: u64 = 16;

/// The budget of a store.
#[derive(Debug)]
pub(crate) struct StoreBudget {
    /// Most bytes that may ever be held.
    most: u64,
    /// Most for now.
    limit: AtomicU64,
    pub(super) ledger: Ledger,
    /// Deferred pages of all clients, and the most that there may be.
    pub(super) deferred_pages: AtomicU64,
    pub(super) most_deferred: u64,
    pub(crate) wake_up: WakeUp,
    pub(crate) demotion: Demotion,
    /// Threads that do in the background what operations leave undone.
    pub(crate) helpers: AtomicUsize,
    pub(crate) arena: Arena,
}

impl StoreBudget {
    pub(crate) fn new(arena: Arena, most: u64, most_deferred: u64) -> Self {
        Self {
            most,
            limit: AtomicU64::new(most),
            ledger: Ledger::default(),
            deferred_pages: AtomicU64::new(0),
            most_deferred,
            wake_up: WakeUp::default(),
            demotion: Demotion::default(),
            helpers: AtomicUsize::new(0),
            arena,
        }
    }

    /// Most bytes that may ever be held.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// Most bytes that may be held for now, but for moving entries: without some room
    /// left, none could be had by cleaning, nor by recompressing pages.
    pub(crate) fn limit(&self) -> u64 {
        let most = self.most.saturating_sub(RESERVE);
        self.limit.load(Relaxed).min(most)
    }

    /// Holds at most `bytes` for now.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes.min(self.most), Relaxed);
    }

    /// Bytes held.
    pub(crate) fn held(&self) -> u64 {
        self.ledger.held()
    }

    /// Charges `bytes` that are to be held, if there is room.
    pub(super) fn charge(&self, bytes: u64) -> bool {
        self.ledger.charge(self.limit(), bytes)
    }

    /// Whether a thread does in the background what operations leave undone.
    pub(crate) fn has_helpers(&self) -> bool {
        self.helpers.load(Relaxed) > 0
    }

    /// Whether little memory is left.
    pub(crate) fn is_tight(&self) -> bool {
        let limit = self.limit();
        self.ledger.is_beyond(limit - limit / TIGHT)
    }

    /// Whether there is room for a piece of page memory.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_for(PIECE as u64)
    }

    /// Whether there is room for so many bytes.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        self.held().saturating_add(bytes) <= self.limit()
    }

    /// Whether any client has deferred pages.
    pub(crate) fn has_deferred(&self) -> bool {
        self.deferred_pages.load(Relaxed) > 0
    }

    /// Wakes the background thread if enough pages are deferred.
    pub(crate) fn wake_if_worthwhile(&self) {
        if self.deferred_pages.load(Relaxed) >= WORTHWHILE {
            self.wake_up.wake();
        }
    }
}
