// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The segments of a store.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::mapping::Mapping;
use super::{MAX_SEGMENTS, PIECE, SEGMENT};
use crate::types::Error;

/// What is known of a segment in use.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// Entries, drafts and pins in it, and one if it is a head.
    pub(super) refs: AtomicU32,
    /// Bytes from its start that entries take, and those of them that are live.
    pub(super) used: AtomicU32,
    pub(super) live: AtomicU32,
    /// Bytes from its start that are backed with memory.
    pub(super) backed: AtomicU32,
    /// When it became a head, in its client's count of segments.
    pub(super) since: AtomicU64,
    /// Where it stands in its client's list.
    pub(super) place: AtomicU32,
    /// Its pages are to be compressed.
    pub(super) is_deferred: AtomicBool,
    /// Nothing is appended any more, and what was is known to who sees this.
    pub(super) is_sealed: AtomicBool,
    /// Somebody cleans it.
    pub(super) is_cleaned: AtomicBool,
}

impl Segment {
    /// Counts a reference up, unless there is none.
    pub(super) fn try_hold(&self) -> bool {
        let up = |refs: u32| (refs > 0).then(|| refs + 1);
        self.refs.fetch_update(Acquire, Relaxed, up).is_ok()
    }

    /// Bytes of entries that were freed.
    pub(super) fn dead(&self) -> u32 {
        let used = self.used.load(Relaxed);
        used.saturating_sub(self.live.load(Relaxed))
    }
}

/// Segments that hold no memory.
#[derive(Debug, Default)]
struct Free {
    /// Segments that were used and punched out.
    punched: Vec<u32>,
    /// Segments from here on were never used.
    fresh: u32,
}

/// All page memory of a store.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(super) mapping: Mapping,
    chunks: Box<[OnceLock<Box<[Segment]>>]>,
    free: Mutex<Free>,
    total: u32,
}

/// Segments whose state is made at a time.
const CHUNK: usize = 64;

impl Arena {
    /// Reserves address space for `limit` bytes of page memory, however few of
    /// its segments are full.
    ///
    /// # Errors
    /// When the limit is too large or the system has no memfd or address space.
    pub(crate) fn new(limit: u64) -> Result<Self, Error> {
        let most = u64::from(MAX_SEGMENTS) * SEGMENT as u64;
        if limit > most {
            return Err(Error::LimitTooLarge { limit, most });
        }
        let pieces = limit.div_ceil(PIECE as u64);
        let total = u32::try_from(pieces).map_or(MAX_SEGMENTS, |pieces| pieces.min(MAX_SEGMENTS));
        let bytes = total as usize * SEGMENT;
        let mapping =
            Mapping::new(bytes).map_err(|(action, source)| Error::PageMemory { action, source })?;
        let chunks = (total as usize).div_ceil(CHUNK);
        Ok(Self {
            mapping,
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            free: Mutex::default(),
            total,
        })
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a segment.
    pub(super) fn segment(&self, segment: u32) -> Option<&Segment> {
        let chunk = self.chunks.get(segment as usize / CHUNK)?;
        let chunk = chunk.get_or_init(|| (0..CHUNK).map(|_| Segment::default()).collect());
        chunk.get(segment as usize % CHUNK)
    }

    /// A segment, not backed with memory, to which nobody refers.
    pub(super) fn acquire(&self) -> Option<u32> {
        let mut free = self.free();
        match free.punched.pop() {
            Some(segment) => Some(segment),
            None if free.fresh < self.total => {
                free.fresh += 1;
                Some(free.fresh - 1)
            }
            None => None,
        }
    }

    /// Backs bytes `from..to` of a segment; whether the system had memory.
    pub(super) fn back(&self, segment: u32, from: usize, to: usize) -> bool {
        let end = u64::from(segment) * SEGMENT as u64 + to as u64;
        if end > self.mapping.len() {
            let _one_at_a_time = self.free();
            if self.mapping.grow(end).is_err() {
                return false;
            }
        }
        self.mapping.back(segment, from, to).is_ok()
    }

    /// Gives a segment to which nobody refers back to the system.
    pub(super) fn release(&self, segment: u32) {
        // If the hole cannot be punched the memory stays, to be reused.
        let _ = self.mapping.punch(segment);
        self.free().punched.push(segment);
    }

    /// Bytes of memory that the system reports behind the segments.
    pub(crate) fn backed_bytes(&self) -> io::Result<u64> {
        self.mapping.backed_bytes()
    }
}
