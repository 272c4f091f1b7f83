// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Segments of a client that are in the store's spill area: how one is made, what is read of it, and
//! which are to be cleaned.

use super::super::SEGMENT;
use super::super::entry::{Entry, Location, Pin, Victim};
use super::super::format::{HEADER, NAME, Place, footprint, live_entry};
use super::super::owner::Payload;
use super::super::pack::{PackedAt, Packer};
use super::super::segments::Arena;
use super::super::spill::{SegmentBlocks, Spill, Window};
use super::super::stub::Stub;
use super::head::to_u32;
use super::{Log, Segments};
use crate::area::Reading;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{MutexGuard, PoisonError};
use std::cmp::Reverse;
use std::io;

/// Milliseconds after which a segment that could not be read is cleaned after all. A device that was away
/// may be back, and what is bad for good is not read all the time.
const UNREAD: u64 = 2_000;

/// A segment in a spill area whose entries are about to be kept. To be ended by
/// [`Log::seal_spilled`].
#[derive(Debug)]
#[must_use = "a segment that stays referred to is memory lost"]
pub(crate) struct Spilled {
    segment: u32,
}

impl Arena {
    /// Whether an entry is in the spill area.
    pub(crate) fn is_spilled(&self, location: Location) -> bool {
        let segment = self.segment(location.segment());
        segment.is_some_and(|segment| segment.slot().is_some())
    }

    /// Marks an entry of a spilled segment as live or dead; whether it is one.
    pub(super) fn mark_spilled(&self, location: Location, is_live: bool) -> bool {
        let is_spilled = self.is_spilled(location);
        if is_spilled {
            let (offset, bit) = Stub::live_bit(location.offset());
            let _ = self.mapping.mark(location.segment(), offset, bit, is_live);
        }
        is_spilled
    }

    /// Whether an entry of a spilled segment is live, as its stub says.
    pub(super) fn is_live(&self, segment: u32, offset: usize) -> bool {
        let (at, bit) = Stub::live_bit(offset);
        let word = self.mapping.word(segment, at);
        word.is_some_and(|word| word.load(Acquire) & bit != 0)
    }

    /// Asks for an entry in the spill area, if it can be asked for ahead.
    pub(crate) fn begin_spilled(&self, pin: &Pin) -> Option<Box<dyn Reading>> {
        let location = pin.location();
        let key = self.spilled_key(location.segment())?;
        let len = HEADER + location.len();
        self.spill.as_ref()?.begin(key, location.offset(), len)
    }

    /// Whether others have to answer for what is in the spill area.
    pub(crate) fn is_remote(&self) -> bool {
        self.spill.as_ref().is_some_and(Spill::is_remote)
    }

    /// Whether reads of the spill area can be under way together.
    pub(crate) fn reads_ahead(&self) -> bool {
        self.spill.as_ref().is_some_and(Spill::reads_ahead)
    }

    /// Reads the payload of an entry that is or was in the spill area, or was asked for, for as long as `go_on` says so.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::Interrupted`] if `go_on` stopped it; or the bytes are
    /// not as they were written.
    pub(crate) fn read_spilled<'a>(
        &self,
        pin: &Pin,
        begun: Option<Box<dyn Reading>>,
        window: &'a mut Window,
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<Payload<'a>> {
        let location = pin.location();
        let (len, offset) = (location.len(), location.offset());
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        let key = self.spilled_key(location.segment());
        let (Some(spill), Some(key)) = (self.spill.as_ref(), key) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let place = self.place(location).ok_or_else(damaged)?;
        let len_all = HEADER + len;
        let bytes = match begun {
            Some(reading) => {
                let bytes = window.get_mut(..len_all).ok_or_else(damaged)?;
                reading.finish(bytes, go_on)?;
                &*bytes
            }
            None => spill.read(key, offset, len_all, window, go_on)?,
        };
        checked(bytes, place, location).ok_or_else(damaged)
    }
}

/// The payload of an entry, if all of it is as it was written.
fn checked(bytes: &[u8], place: Place, location: Location) -> Option<Payload<'_>> {
    let (word, _, bytes) = live_entry(bytes, place)?;
    let codec = location.codec()?;
    let is_it = bytes.len() == location.len() && word.codec == codec && !word.is_name;
    is_it.then_some(Payload { codec, bytes })
}

impl Log {
    fn spilled(&self) -> MutexGuard<'_, Segments> {
        self.spilled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the spill area that the client's pages take.
    pub(crate) fn spilled_bytes(&self) -> u64 {
        self.spilled_segments.load(Relaxed) * SEGMENT as u64
    }

    /// Pages in the spill area.
    pub(crate) fn spilled_pages(&self) -> u64 {
        self.spilled_pages.load(Relaxed)
    }

    /// Bytes of these that hold nothing, or about so many.
    pub(crate) fn spilled_dead(&self) -> u64 {
        let live = self.spilled_live.load(Relaxed);
        self.spilled_bytes().saturating_sub(live)
    }

    /// Writes a segment to the spill area, and makes it one of the client's. [`Stub::MEMORY`] bytes
    /// are to be charged.
    ///
    /// # Errors
    /// The area has no room, or what the system says.
    pub(crate) fn spill(
        &self,
        arena: &Arena,
        draft: &mut Packer,
        cleans: bool,
    ) -> io::Result<Spilled> {
        let spill = arena.spill.as_ref();
        let spill = spill.ok_or(io::ErrorKind::StorageFull)?;
        let header = draft.end(self.identity);
        let number = arena.acquire().ok_or(io::ErrorKind::OutOfMemory)?;
        if !arena.back(number, 0, Stub::MEMORY) {
            arena.release(number, Stub::MEMORY);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let written = spill.take(cleans).and_then(|slot| {
            spill.write(slot.key(&header), draft.blocks(), draft.used())?;
            Ok(slot)
        });
        let slot = written.inspect_err(|_| arena.release(number, Stub::MEMORY))?;
        let stub = Stub {
            header,
            slot,
            used: to_u32(draft.used()),
            area: spill.identity(),
        };
        let [first, rest @ ..] = stub.encode();
        let all = (1..).zip(rest).chain([(0, first)]);
        for (nth, word) in all {
            let _ = arena.mapping.store(number, nth * 8, word);
        }
        if let Some(segment) = arena.segment(number) {
            segment.set_slot(Some(slot));
            segment.sequence.store(header.sequence, Relaxed);
        }
        if !self.enlist_spilled(arena, number, draft.used(), draft.names()) {
            arena.release(number, Stub::MEMORY);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(Spilled { segment: number })
    }

    /// Makes a spilled segment one of the client's; whether there is memory for the list.
    pub(super) fn enlist_spilled(
        &self,
        arena: &Arena,
        number: u32,
        used: usize,
        names: usize,
    ) -> bool {
        let mut segments = self.spilled();
        let Some(segment) = segments.add(arena, number) else {
            return false;
        };
        segment.used.store(to_u32(used), Relaxed);
        segment.names.store(to_u32(names * NAME), Relaxed);
        segment.backed.store(to_u32(Stub::MEMORY), Relaxed);
        segment.unused_since.store(0, Relaxed);
        segment.is_deferred.store(false, Relaxed);
        segment.is_recompressed.store(true, Relaxed);
        segment.first_ref();
        true
    }

    /// Counts a segment in the spill area, once what it was made of has come back.
    pub(super) fn count_spilled_segment(&self) {
        self.spilled_segments.fetch_add(1, Relaxed);
    }

    /// Gives back what is counted of a spilled segment to which nobody refers any more; bytes of
    /// memory given back.
    pub(super) fn release_spilled(&self, arena: &Arena, number: u32) -> u64 {
        self.spilled().remove(arena, number);
        if let Some(segment) = arena.segment(number) {
            // Those of segments in memory are counted.
            segment.names.store(0, Relaxed);
        }
        self.spilled_segments.fetch_sub(1, Relaxed);
        arena.release(number, Stub::MEMORY);
        Stub::MEMORY as u64
    }

    /// An entry of a segment that was written.
    pub(crate) fn spilled_entry(&self, arena: &Arena, of: &Spilled, place: PackedAt) -> Entry {
        let PackedAt { offset, codec, len } = place;
        let takes = footprint(len.into());
        if let Some(segment) = arena.segment(of.segment) {
            segment.hold();
            segment.live.fetch_add(to_u32(takes), Relaxed);
        }
        self.count_spilled(takes, 1);
        Entry::new(Location::new(of.segment, offset, codec, len))
    }

    /// Counts entries of spilled segments.
    pub(super) fn count_spilled(&self, bytes: usize, pages: u64) {
        self.spilled_live.fetch_add(bytes as u64, Relaxed);
        self.spilled_pages.fetch_add(pages, Relaxed);
    }

    /// Counts an entry of a spilled segment that was freed.
    pub(super) fn uncount_spilled(&self, bytes: usize) {
        self.spilled_live.fetch_sub(bytes as u64, Relaxed);
        self.spilled_pages.fetch_sub(1, Relaxed);
    }

    /// Ends that entries of a segment are about to be kept, and counts it as held; bytes of memory
    /// given back.
    pub(crate) fn seal_spilled(&self, arena: &Arena, spilled: Spilled) -> u64 {
        self.count_spilled_segment();
        if let Some(segment) = arena.segment(spilled.segment) {
            segment.is_sealed.store(true, Release);
        }
        self.unref(arena, spilled.segment)
    }

    /// Of some spilled segments that were not looked at for long, the one with most dead bytes, at
    /// least `least` of them, with what is in it.
    ///
    /// # Errors
    /// The segment, which cannot be read.
    pub(crate) fn sparse_spilled(
        &self,
        arena: &Arena,
        least: u32,
    ) -> Result<Option<Victim>, Victim> {
        let now = arena.now();
        let mut segments = self.spilled();
        let sparsest = segments.best(
            arena,
            |it| &mut it.next,
            Segments::LOOKS,
            |segment| {
                let dead = segment.dead();
                let can_be_read = segment.unused_since.load(Relaxed) <= now;
                (dead >= least && can_be_read && segment.can_be_cleaned()).then_some(dead)
            },
        );
        let Some(number) = sparsest else {
            return Ok(None);
        };
        let Some(victim) = self.take(arena, number, segments) else {
            return Ok(None);
        };
        let mut blocks = Box::new(SegmentBlocks::new());
        let read = match (arena.spill.as_ref(), arena.spilled_key(number)) {
            (Some(spill), Some(key)) => spill.read_segment(key, victim.used(), &mut blocks),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        // Also if they are not what was written.
        let victim = victim.with_blocks(blocks);
        match read {
            Ok(()) => Ok(Some(victim)),
            Err(_) => Err(victim.unread()),
        }
    }

    /// Gives a victim back that could not be read, or is not as it was written: it is not cleaned for a
    /// while, or not again. What can be read of it is still there. Bytes of memory given back.
    pub(crate) fn leave(&self, arena: &Arena, victim: Victim) -> u64 {
        if let Some(segment) = arena.segment(victim.segment()) {
            if victim.is_unread() {
                let until = arena.now().saturating_add(UNREAD);
                segment.unused_since.store(until, Relaxed);
            } else {
                segment.is_sealed.store(false, Relaxed);
            }
        }
        self.done(arena, victim)
    }

    /// The segment in memory whose entries are the oldest, as far as it can be demoted.
    pub(crate) fn oldest(&self, arena: &Arena) -> Option<Victim> {
        let mut segments = self.segments();
        let oldest = segments.best(
            arena,
            |it| &mut it.next_oldest,
            Segments::LOOKS,
            |segment| {
                let can_be = segment.can_be_cleaned() && segment.live.load(Relaxed) > 0;
                can_be.then(|| Reverse(segment.sequence.load(Relaxed)))
            },
        );
        self.take(arena, oldest?, segments)
    }
}
