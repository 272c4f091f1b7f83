// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Segments that are backed with memory before deferred pages need them: a put would wait
//! for the system to find and clear it.
//!
//! They are charged, and free as far as the file tells. Segments whose deferred pages are
//! all compressed become ready again.

use super::super::SEGMENT;
use super::super::segments::{Arena, Segment};
use super::{Log, Temperature};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{MutexGuard, PoisonError};

/// Most segments that are ready.
const MOST: usize = 8;

/// Milliseconds after which what is ready is no longer wanted, unless some was used.
const UNUSED: u64 = 300;

/// Segments that are ready.
#[derive(Debug, Default)]
pub(super) struct Ready {
    segments: [u32; MOST],
    count: usize,
    /// As many are to be ready.
    wanted: usize,
    /// Segments that deferred pages have begun.
    begun: u64,
    /// None was begun for a while.
    is_unused: bool,
    /// How many these were when they were last seen to have changed, and when that was.
    seen: (u64, u64),
}

impl Ready {
    /// Makes a segment ready, unless there are enough.
    fn push(&mut self, number: u32) -> bool {
        match self.segments.get_mut(self.count) {
            Some(place) if self.count < self.wanted => {
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
    fn ready(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment that is ready, for deferred pages.
    pub(super) fn take_ready(&self) -> Option<u32> {
        let mut ready = self.ready();
        ready.begun += 1;
        ready.pop()
    }

    /// Makes a segment ready to which nobody refers any more; whether more are wanted.
    pub(super) fn make_ready(&self, arena: &Arena, number: u32, segment: &Segment) -> bool {
        let is_fit = segment.is_deferred.load(Relaxed)
            && segment.backed.load(Relaxed) as usize == SEGMENT
            // Free, whatever else is there.
            && arena.mapping.store(number, 0, 0).is_some();
        is_fit && self.ready().push(number)
    }

    /// Whether deferred pages have begun a segment lately, so that more are to be ready.
    pub(crate) fn is_deferring(&self) -> bool {
        let ready = self.ready();
        ready.begun > 0 && !ready.is_unused
    }

    #[cfg(test)]
    pub(crate) fn has_ready(&self) -> bool {
        self.ready().count > 0
    }

    /// How many more segments than there are should be ready, of up to `most` in all.
    /// Those that are not used for a while are not wanted any more.
    pub(crate) fn wants_ready(&self, arena: &Arena, most: u64) -> usize {
        let now = arena.now();
        let mut ready = self.ready();
        if ready.seen.0 != ready.begun {
            ready.seen = (ready.begun, now);
            ready.is_unused = false;
            ready.wanted = usize::try_from(most).map_or(MOST, |most| most.min(MOST));
        } else if now.saturating_sub(ready.seen.1) >= UNUSED {
            ready.wanted = 0;
            ready.is_unused = true;
        }
        ready.wanted.saturating_sub(ready.count)
    }

    /// Backs a segment with memory that was charged; bytes of it that are to be credited.
    pub(crate) fn prepare(&self, arena: &Arena) -> u64 {
        let bytes = SEGMENT as u64;
        let Some(number) = arena.acquire() else {
            return bytes;
        };
        if !arena.back(number, 0, SEGMENT) {
            arena.release(number, SEGMENT);
            return bytes;
        }
        self.count_backed(bytes, true);
        if !self.ready().push(number) {
            return self.give_back(arena, number);
        }
        if self.live.load(Relaxed) == 0 {
            // The client may be gone: nobody else would give it back.
            return self.unready(arena);
        }
        0
    }

    /// Gives back what is ready and not wanted, and the head of deferred pages if it is empty
    /// and not used; bytes of memory.
    pub(crate) fn unready_unwanted(&self, arena: &Arena) -> u64 {
        let is_unused = self.ready().is_unused;
        let mut bytes = if is_unused {
            self.retire_empty(arena, Temperature::Deferred)
        } else {
            0
        };
        loop {
            let mut ready = self.ready();
            let unwanted = (ready.count > ready.wanted).then(|| ready.pop());
            drop(ready);
            match unwanted.flatten() {
                Some(number) => bytes += self.give_back(arena, number),
                None => return bytes,
            }
        }
    }

    /// Gives back all that is ready; bytes of memory.
    pub(super) fn unready(&self, arena: &Arena) -> u64 {
        self.ready().wanted = 0;
        self.unready_unwanted(arena)
    }

    /// Gives back a segment that was ready; bytes of memory.
    fn give_back(&self, arena: &Arena, number: u32) -> u64 {
        arena.release(number, SEGMENT);
        let bytes = SEGMENT as u64;
        self.uncount_backed(bytes, true);
        bytes
    }
}
