// SPDX-License-Identifier: GPL-2.0

//! Whether the host has room for new pages.
//!
//! The swap code does not learn that a device is full: a page that was refused keeps its slot, and is
//! written again whenever reclaim comes by. So while the host says that it is full, new pages are
//! refused here, but for one now and then, by which it is seen that there is room again. Other answers
//! tell that, too.

use super::tuning;
use crate::wire::Hints;
use kernel::{
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        Instant,
        Monotonic, //
    },
};

/// See the module.
pub(crate) struct Fullness {
    is_full: Atomic<bool>,
    /// Nothing new is to be given to the host, whatever it says.
    is_closed: Atomic<bool>,
    start: Instant<Monotonic>,
    /// Milliseconds after `start` before which the host is not asked again.
    next: Atomic<i64>,
}

impl Fullness {
    /// There is room.
    pub(crate) fn new() -> Self {
        Self {
            is_full: Atomic::new(false),
            is_closed: Atomic::new(false),
            start: Instant::now(),
            next: Atomic::new(0),
        }
    }

    /// Another device is there, which has not said anything yet.
    pub(crate) fn forget(&self) {
        self.is_full.store(false, Relaxed);
    }

    /// An answer has come with `hints`.
    pub(crate) fn hear(&self, hints: Hints) {
        let is_full = hints.contains(Hints::FULL) || hints.contains(Hints::FROZEN);
        if is_full != self.is_full.load(Relaxed) {
            self.put_off();
            self.is_full.store(is_full, Relaxed);
        }
    }

    fn put_off(&self) {
        let later = self.start.elapsed().as_millis() + tuning::FULL_MS;
        self.next.store(later, Relaxed);
    }

    /// Whether new pages are refused. False for one now and then while the host is full.
    pub(crate) fn refuses(&self) -> bool {
        if self.is_closed.load(Relaxed) {
            return true;
        }
        if !self.is_full.load(Relaxed) {
            return false;
        }
        let now = self.start.elapsed().as_millis();
        let next = self.next.load(Relaxed);
        let is_due = now >= next
            && self
                .next
                .cmpxchg(next, now + tuning::FULL_MS, Relaxed)
                .is_ok();
        !is_due
    }

    /// Whether new pages are refused, but for one now and then.
    pub(crate) fn is_full(&self) -> bool {
        self.is_closed.load(Relaxed) || self.is_full.load(Relaxed)
    }

    /// Refuses all new pages, or no longer.
    pub(crate) fn close(&self, is_closed: bool) {
        self.is_closed.store(is_closed, Relaxed);
    }
}
