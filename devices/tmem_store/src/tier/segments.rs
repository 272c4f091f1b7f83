// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The segments of a store.

use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use crate::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::format::{ALIGN, Damaged, SegmentHeader};
use super::mapping::{Mapping, PageMemory};
use super::spill::{Spill, slots_of};
use super::stub::{Slot, Stub};
use super::{MAX_SEGMENTS, PIECE, SEGMENT};
use crate::area::{Area, SegmentKey};
use crate::types::{Error, Identity};

/// What is known of a segment in use.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// Entries, drafts and pins in it, and one if it is a head; in the upper half, how many
    /// of them are pins.
    refs: AtomicU64,
    /// Entries that are not yet what is kept of their pages. They cannot be moved, so
    /// that cleaning would give nothing back.
    pub(super) open: AtomicU32,
    /// Bytes from its start that entries take, and those of them that are live.
    pub(super) used: AtomicU32,
    pub(super) live: AtomicU32,
    /// Bytes of its names, which count as live: pages that are moved need them, too.
    pub(super) names: AtomicU32,
    /// Bytes from its start that are backed with memory.
    pub(super) backed: AtomicU32,
    /// Counts the uses of the store's segments.
    pub(super) sequence: AtomicU64,
    /// Where it stands in its client's list.
    pub(super) place: AtomicU32,
    /// When it was sealed or last looked through, by the arena's clock; of one in the spill area, until
    /// when it is not cleaned, because it could not be read.
    pub(super) unused_since: AtomicU64,
    /// The number of the slot of the spill area that its entries are in; 0: they are in memory.
    /// It does not change while the segment is referred to.
    slot: AtomicU32,
    /// Its entries are as small as they get.
    pub(super) is_recompressed: AtomicBool,
    /// Its pages are to be compressed.
    pub(super) is_deferred: AtomicBool,
    /// Nothing is appended any more, and what was is known to who sees this.
    pub(super) is_sealed: AtomicBool,
    /// Somebody cleans it.
    pub(super) is_cleaned: AtomicBool,
}

/// A pin, as references are counted.
const PIN: u64 = 1 << 32 | 1;

impl Segment {
    /// Where its entries are, unless they are in memory.
    pub(super) fn slot(&self) -> Option<Slot> {
        Slot::new(self.slot.load(Relaxed))
    }

    /// To be called while nobody refers to it.
    pub(super) fn set_slot(&self, slot: Option<Slot>) {
        self.slot.store(slot.map_or(0, Slot::number), Relaxed);
    }

    /// References, pins included. What those who had others did is known to who sees this.
    pub(super) fn refs(&self) -> u32 {
        to_refs(self.refs.load(Acquire))
    }

    /// Whether somebody may read what was freed meanwhile. If not, who had pins has done with
    /// them for who sees this.
    pub(super) fn is_pinned(&self) -> bool {
        self.refs.load(Acquire) >= 1 << 32
    }

    /// The first reference. What was stored before is there for who counts another one.
    pub(super) fn first_ref(&self) {
        self.refs.store(1, Release);
    }

    /// Counts a reference up, while there is one.
    pub(super) fn hold(&self) {
        self.refs.fetch_add(1, Relaxed);
    }

    /// Counts references of so many entries up, while there is one.
    pub(super) fn hold_for(&self, entries: u32) {
        self.refs.fetch_add(entries.into(), Relaxed);
    }

    /// Counts a pin up, while there is a reference.
    pub(super) fn pin(&self) {
        self.refs.fetch_add(PIN, Relaxed);
    }

    /// Counts a reference up, unless there is none.
    pub(super) fn try_hold(&self) -> bool {
        let up = |refs: u64| (refs > 0).then(|| refs + 1);
        self.refs.fetch_update(Acquire, Relaxed, up).is_ok()
    }

    /// Counts a reference down; how many there were.
    pub(super) fn unhold(&self) -> u32 {
        to_refs(self.refs.fetch_sub(1, Release))
    }

    /// Counts a pin down; how many references there were.
    pub(super) fn unpin(&self) -> u32 {
        to_refs(self.refs.fetch_sub(PIN, Release))
    }

    /// Whether its live entries can be moved, so that all of it comes back: it is
    /// sealed, nobody is at it, and nothing in it is about to be kept.
    pub(super) fn can_be_cleaned(&self) -> bool {
        self.is_sealed.load(Acquire)
            && self.open.load(Relaxed) == 0
            && !self.is_deferred.load(Relaxed)
            && !self.is_cleaned.load(Relaxed)
    }

    /// Whether entries may take the place of freed ones, unless it is cleaned: nothing is
    /// appended any more.
    pub(super) fn can_be_filled(&self) -> bool {
        self.is_sealed.load(Acquire)
            && !self.is_deferred.load(Relaxed)
            && !self.is_recompressed.load(Relaxed)
    }

    /// Has it be cleaned, unless somebody does so or writes an entry in it.
    pub(super) fn begin_cleaning(&self) -> bool {
        if !self.is_sealed.load(Acquire) || self.is_cleaned.swap(true, SeqCst) {
            return false;
        }
        // Either this sees who is about to write, or they see that it is cleaned.
        let is_at_rest = self.open.load(SeqCst) == 0;
        if !is_at_rest {
            self.end_cleaning();
        }
        is_at_rest
    }

    /// Who writes in it from now on knows that everything was read.
    pub(super) fn end_cleaning(&self) {
        self.is_cleaned.store(false, Release);
    }

    /// Has an entry be written in place of a freed one, unless it is cleaned or read. It is
    /// open then.
    pub(super) fn begin_filling(&self) -> bool {
        self.open.fetch_add(1, SeqCst);
        let is_at_rest = !self.is_cleaned.load(SeqCst) && !self.is_pinned();
        if !is_at_rest {
            self.no_longer_open();
        }
        is_at_rest
    }

    /// An entry is published or dead, or was not written.
    pub(super) fn no_longer_open(&self) {
        self.open.fetch_sub(1, Release);
    }

    /// Bytes of entries that were freed.
    pub(super) fn dead(&self) -> u32 {
        let live = self.live.load(Relaxed) + self.names.load(Relaxed);
        self.used.load(Relaxed).saturating_sub(live)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "takes bit fields apart")]
fn to_refs(refs: u64) -> u32 {
    refs as u32
}

/// Segments that hold no memory.
#[derive(Debug, Default)]
struct Free {
    /// Segments that were used and punched out.
    punched: Vec<u32>,
    /// Segments from here on were never used.
    fresh: u32,
}

/// A segment that an earlier store has left in use, and that no log has yet.
#[derive(Debug)]
#[must_use = "a segment that nobody has is memory lost"]
pub(crate) struct Left {
    number: u32,
    header: SegmentHeader,
    /// Where its entries are, if they are not in memory, and how many bytes they take.
    spilled: Option<(Slot, usize)>,
}

impl Left {
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(crate) fn spilled(&self) -> Option<(Slot, usize)> {
        self.spilled
    }

    pub(crate) fn identity(&self) -> Identity {
        self.header.identity
    }

    /// By this they are to be taken over in order.
    pub(crate) fn sequence(&self) -> u64 {
        self.header.sequence
    }
}

/// All page memory of a store.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(super) mapping: Mapping,
    pub(crate) spill: Option<Spill>,
    chunks: Box<[OnceLock<Box<[Segment]>>]>,
    free: Mutex<Free>,
    total: u32,
    /// Uses of segments, so far.
    sequence: AtomicU64,
    started: Instant,
}

/// Segments whose state is made at a time.
const CHUNK: usize = 64;

impl Arena {
    /// Reserves address space for `limit` bytes of page memory, however few of
    /// its segments are full, and for stubs of all that `area` has room for.
    ///
    /// # Errors
    /// When the limit is too large, the system has no memfd or address space, or the area cannot be
    /// written.
    pub(crate) fn new(limit: u64, area: Option<Arc<dyn Area>>) -> Result<Self, Error> {
        if let Some(area) = &area {
            area.renew().map_err(|source| Error::Spill { source })?;
        }
        let arena = Self::over(None, limit, area.as_ref())?;
        Ok(arena.spilling_to(area, Vec::new()))
    }

    /// Takes over the file of an earlier store, and finds the segments that it has
    /// left in use, there and in its spill area.
    ///
    /// # Errors
    /// As [`Arena::new`], when the file is not page memory of this version, and when pages are in
    /// another spill area.
    pub(crate) fn recover(
        file: PageMemory,
        limit: u64,
        area: Option<Arc<dyn Area>>,
    ) -> Result<(Self, Vec<Left>), Error> {
        let failed = |action| move |source| Error::PageMemory { action, source };
        let arena = Self::over(Some(file), limit, area.as_ref())?;
        let mut slots = Vec::new();
        let count = arena.mapping.len().div_ceil(SEGMENT as u64);
        // Checked when the file was taken.
        let count = u32::try_from(count).unwrap_or(0);
        let (mut left, mut free, mut last) = (Vec::new(), Vec::new(), 0);
        // What has no memory behind it is free.
        let mut next = 0;
        while let Some(number) = arena
            .mapping
            .next_backed(next)
            .map_err(failed("look for used page memory"))?
            .filter(|number| *number < count)
        {
            free.extend(next..number);
            next = number + 1;
            let mut bytes = [0; Stub::BYTES];
            let read = arena.mapping.read(number, &mut bytes);
            read.map_err(failed("read a file of page memory"))?;
            if let Some(stub) = Stub::from_bytes(&bytes).map_err(|Damaged| Error::Damaged)? {
                let is_there = area.as_ref().is_some_and(|area| {
                    let is_it = area.identity() == stub.area
                        // All pages have to be in one.
                        || (slots.is_empty() && area.take_over(stub.area));
                    is_it && stub.slot.number() < slots_of(&**area)
                });
                if !is_there {
                    return Err(Error::OtherSpillArea);
                }
                last = stub.header.sequence.max(last);
                slots.push(stub.slot);
                left.push(Left {
                    number,
                    header: stub.header,
                    spilled: Some((stub.slot, stub.used as usize)),
                });
                continue;
            }
            let Some(bytes) = bytes.first_chunk() else {
                break;
            };
            match SegmentHeader::from_bytes(bytes) {
                Ok(Some(header)) => {
                    last = header.sequence.max(last);
                    left.push(Left {
                        number,
                        header,
                        spilled: None,
                    });
                }
                Ok(None) => {
                    // Its store may have ended before all of its memory was back.
                    let punched = arena.mapping.punch(number, 0);
                    punched.map_err(failed("give unused page memory back"))?;
                    free.push(number);
                }
                Err(Damaged) => {
                    let other = SegmentHeader::other_version(bytes);
                    return Err(other.map_or(Error::Damaged, |found| Error::OtherVersion {
                        found,
                        known: Stub::VERSION,
                    }));
                }
            }
        }
        if let Some(area) = area.as_ref().filter(|_| slots.is_empty()) {
            // It begins empty: no other store's stubs are to be taken for this one's.
            area.renew().map_err(|source| Error::Spill { source })?;
        }
        free.extend(next..count);
        let next = last.checked_add(1).ok_or(Error::Damaged)?;
        arena.sequence.store(next, Relaxed);
        *arena.free() = Free {
            punched: free,
            fresh: count,
        };
        Ok((arena.spilling_to(area, slots), left))
    }

    /// The same with a spill area, of which `used` slots hold something.
    fn spilling_to(self, area: Option<Arc<dyn Area>>, used: Vec<Slot>) -> Self {
        Self {
            spill: area.map(|area| Spill::new(area, used)),
            ..self
        }
    }

    fn over(
        file: Option<PageMemory>,
        limit: u64,
        area: Option<&Arc<dyn Area>>,
    ) -> Result<Self, Error> {
        let most = u64::from(MAX_SEGMENTS) * SEGMENT as u64;
        if limit > most {
            return Err(Error::LimitTooLarge { limit, most });
        }
        let failed = |(action, source)| Error::PageMemory { action, source };
        let len = match &file {
            Some(file) => file.len().map_err(failed)?,
            None => 0,
        };
        if len > most {
            return Err(Error::Damaged);
        }
        let pieces = limit
            .div_ceil(PIECE as u64)
            .saturating_add(area.map_or(0, |area| slots_of(&**area).into()))
            .max(len.div_ceil(SEGMENT as u64));
        let total = u32::try_from(pieces).map_or(MAX_SEGMENTS, |pieces| pieces.min(MAX_SEGMENTS));
        let bytes = total as usize * SEGMENT;
        let mapping = match file {
            Some(file) => Mapping::over(file, bytes),
            None => Mapping::new(bytes),
        };
        let mapping = mapping.map_err(failed)?;
        let chunks = (total as usize).div_ceil(CHUNK);
        Ok(Self {
            mapping,
            spill: None,
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            free: Mutex::default(),
            total,
            sequence: AtomicU64::new(1),
            started: Instant::now(),
        })
    }

    /// Milliseconds since the arena was made.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
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

    /// Uses of segments that began after one with this sequence.
    pub(super) fn age(&self, sequence: u64) -> u64 {
        self.sequence.load(Relaxed).saturating_sub(sequence)
    }

    /// The sequence of a segment that begins to be used now.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Relaxed)
    }

    /// Gives a segment to which nobody refers back to the system: as many bytes of it
    /// as are backed, and its slot if it has one.
    pub(super) fn release(&self, segment: u32, backed: usize) {
        // As long as its stub is there.
        let spilled = self.spilled_key(segment);
        if self.mapping.punch(segment, 0).is_err() {
            // The memory stays, to be reused, and has to look like what is new.
            let _ = self.mapping.clear(segment, backed);
        }
        if let Some(key) = spilled {
            self.free_spilled(segment, key);
        }
        self.free().punched.push(segment);
    }

    #[cfg(test)]
    pub(crate) fn journal(&self) -> &super::journal::Journal {
        &self.mapping.journal
    }

    /// What a segment has in the spill area, as its stub says.
    pub(super) fn spilled_key(&self, segment: u32) -> Option<SegmentKey> {
        let slot = self.segment(segment).and_then(Segment::slot)?;
        let word = |nth| Some(self.mapping.word(segment, nth * ALIGN)?.load(Relaxed));
        Stub::key(slot, word)
    }

    /// What a segment had in the spill area is needed no longer, as memory says by now.
    fn free_spilled(&self, segment: u32, key: SegmentKey) {
        if let Some(segment) = self.segment(segment) {
            segment.set_slot(None);
        }
        if let Some(spill) = &self.spill {
            spill.free(key);
        }
    }

    /// Frees what an earlier store has left in a segment.
    pub(crate) fn discard(&self, left: Left) {
        if let (Some((slot, _)), Some(segment)) = (left.spilled, self.segment(left.number)) {
            segment.set_slot(Some(slot));
        }
        self.release(left.number, SEGMENT);
    }

    /// Has pages of segments stay in memory from the first access on.
    pub(crate) fn lock(&self) -> io::Result<()> {
        self.mapping.lock()
    }

    /// Takes all segments out of this process's page tables, for now.
    pub(crate) fn unmap(&self) -> io::Result<()> {
        self.mapping.unmap()
    }

    /// Bytes that all segments can have.
    pub(crate) fn reserved(&self) -> usize {
        self.mapping.reserved()
    }

    /// The file behind all segments, from which another store can be made.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.mapping.file()
    }

    /// Bytes of memory that the system reports behind the segments.
    pub(crate) fn backed_bytes(&self) -> io::Result<u64> {
        self.mapping.backed_bytes()
    }
}
