// SPDX-License-Identifier: GPL-2.0

//! Messages about the same trouble, not more often than is useful.

use super::tuning;
use kernel::{
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
};

/// Says when a message is due.
pub(crate) struct RateLimit {
    start: Instant<Monotonic>,
    /// Milliseconds after `start` before which nothing is due.
    next: Atomic<i64>,
}

impl RateLimit {
    /// The first message is due at once.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            next: Atomic::new(0),
        }
    }

    /// Whether a message is due; if so, the next one is not for a while.
    pub(crate) fn is_due(&self) -> bool {
        let now = self.start.elapsed().as_millis();
        let next = self.next.load(Relaxed);
        let later = now + Delta::from_millis(tuning::MESSAGE_MS).as_millis();
        now >= next && self.next.cmpxchg(next, later, Relaxed).is_ok()
    }
}
