// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Segments whose deferred pages are all gone, kept for the next ones: to give memory back and
//! to have the system find and clear other memory a moment later takes longer than a put.
//!
//! They are charged to their client, and free as far as the file tells.

use super::super::SEGMENT;
use super::super::segments::{Arena, Segment};
use super::Log;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{MutexGuard, PoisonError};

/// Most spare segments of a client: the deferred pages that a store has by default, at their
/// most.
const MOST: usize = (64 << 20) / SEGMENT;

/// The part of its memory that a client may have spare, beside one segment.
const PART: u64 = 2;

/// Milliseconds between looks for spare segments that were not needed.
const INTERVAL: u64 = 250;

/// Spare segments.
#[derive(Debug, Default)]
pub(super) struct Spare {
    segments: Vec<u32>,
    /// The fewest that there were since the last look: so many were not needed.
    fewest: usize,
    /// When that was, by the arena's clock.
    looked: u64,
}

impl Spare {
    /// Adds a segment to up to `most`; whether there was room.
    fn push(&mut self, number: u32, most: usize) -> bool {
        // Memory for the list is taken once.
        let missing = MOST - self.segments.len().min(MOST);
        let has_room =
            self.segments.len() < most && self.segments.try_reserve_exact(missing).is_ok();
        if has_room {
            self.segments.push(number);
        }
        has_room
    }

    fn pop(&mut self) -> Option<u32> {
        let number = self.segments.pop();
        self.fewest = self.fewest.min(self.segments.len());
        number
    }

    /// How many segments are not needed, if it is time to look.
    fn unneeded(&mut self, now: u64) -> usize {
        if now.saturating_sub(self.looked) < INTERVAL {
            return 0;
        }
        let unneeded = self.fewest;
        self.looked = now;
        self.fewest = self.segments.len() - unneeded;
        unneeded
    }
}

impl Log {
    fn spare(&self) -> MutexGuard<'_, Spare> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment that is backed with memory, if one is spare; it counts as no longer backed.
    pub(super) fn take_spare(&self) -> Option<u32> {
        let number = self.spare().pop()?;
        self.uncount_spare();
        Some(number)
    }

    fn uncount_spare(&self) {
        self.spare_segments.fetch_sub(1, Relaxed);
        self.uncount_backed(SEGMENT as u64, true);
    }

    /// Keeps a segment to which nobody refers any more; whether it is of use.
    pub(super) fn keep_spare(&self, arena: &Arena, number: u32, segment: &Segment) -> bool {
        let is_fit = segment.is_deferred.load(Relaxed)
            && segment.backed.load(Relaxed) as usize == SEGMENT
            // Free, whatever else is there.
            && arena.mapping.store(number, 0, 0).is_some();
        if !is_fit {
            return false;
        }
        let most = 1 + self.backed_bytes() / PART / SEGMENT as u64;
        let most = usize::try_from(most).map_or(MOST, |most| most.min(MOST));
        let is_kept = self.spare().push(number, most);
        if is_kept {
            self.spare_segments.fetch_add(1, Relaxed);
        }
        is_kept
    }

    /// Whether any segments are spare.
    pub(crate) fn has_spare(&self) -> bool {
        self.spare_segments.load(Relaxed) > 0
    }

    /// How many spare segments nobody has needed for a while; what is told once is not told
    /// again.
    pub(crate) fn unneeded(&self, arena: &Arena) -> usize {
        self.spare().unneeded(arena.now())
    }

    /// Gives up to `most` spare segments back. `credit` is told the bytes of each, before who
    /// does the same finds none.
    pub(crate) fn drop_spare(&self, arena: &Arena, most: usize, mut credit: impl FnMut(u64)) {
        for _ in 0..most {
            let mut spare = self.spare();
            let Some(number) = spare.pop() else {
                return;
            };
            arena.release(number, SEGMENT);
            self.uncount_spare();
            credit(SEGMENT as u64);
        }
    }
}
