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

/// Most spare segments of a client.
const MOST: usize = 8;

/// The part of its memory that a client may have spare, beside one segment.
const PART: u64 = 16;

/// Milliseconds after which spare segments go, if none came or went.
const UNUSED: u64 = 1000;

/// Spare segments.
#[derive(Debug, Default)]
pub(super) struct Spare {
    segments: [u32; MOST],
    count: usize,
    /// When one last came or went, by the arena's clock.
    changed: u64,
}

impl Spare {
    /// Adds a segment to up to `most`; whether there was room.
    fn push(&mut self, number: u32, most: usize) -> bool {
        match self.segments.get_mut(self.count) {
            Some(place) if self.count < most => {
                *place = number;
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    fn pop(&mut self) -> Option<u32> {
        self.count = self.count.checked_sub(1)?;
        self.segments.get(self.count).copied()
    }
}

impl Log {
    fn spare(&self) -> MutexGuard<'_, Spare> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment that is backed with memory, if one is spare; it counts as no longer backed.
    pub(super) fn take_spare(&self, arena: &Arena) -> Option<u32> {
        let mut spare = self.spare();
        let number = spare.pop()?;
        spare.changed = arena.now();
        drop(spare);
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
        let most = usize::try_from(most).unwrap_or(MOST);
        let mut spare = self.spare();
        let is_kept = spare.push(number, most);
        if is_kept {
            spare.changed = arena.now();
            self.spare_segments.fetch_add(1, Relaxed);
        }
        is_kept
    }

    /// Whether any segments are spare.
    pub(crate) fn has_spare(&self) -> bool {
        self.spare_segments.load(Relaxed) > 0
    }

    /// Whether no segment became spare or was used for a while.
    pub(crate) fn is_spare_unused(&self, arena: &Arena) -> bool {
        arena.now().saturating_sub(self.spare().changed) >= UNUSED
    }

    /// Gives all spare segments back. `credit` is told the bytes of each, before who does the
    /// same finds none.
    pub(crate) fn drop_spare(&self, arena: &Arena, mut credit: impl FnMut(u64)) {
        loop {
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
