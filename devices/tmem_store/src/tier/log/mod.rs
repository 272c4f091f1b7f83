// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The log of one client: entries are appended to a head for each temperature.
//!
//! A head's lock is held while its end moves and headers are written, not while
//! payloads are. Below it come the list of segments, then the arena's free ones.

mod access;
mod adopt;
mod head;
mod holes;
mod spare;
mod spilled;
mod victim;

pub(crate) use adopt::{LeftPage, Part, Scanned, Scanner};
pub(crate) use spilled::Spilled;
pub(crate) use victim::Moved;

use super::entry::{Draft, Entry, EntryRef, Pin};
use super::format::{ALIGN, NAME, SegmentHeader, footprint};
use super::owner::{Codec, Owner, Payload};
use super::segments::{Arena, Segment};
use super::{PIECE, SEGMENT};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::types::Identity;
use head::{Head, Names, to_u32};
use holes::Holes;
use spare::Spare;

/// Pages that are likely to go at about the same time have segments of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temperature {
    /// Pages as they are, which are to be compressed soon.
    Deferred,
    /// Pages that were put a short while ago.
    Warm,
    /// Pages that the cleaner has moved: they have lived longer.
    Cold,
    /// Pages that were not used for long, as small as they get.
    Recompressed,
}

impl Temperature {
    const ALL: [Self; 4] = [Self::Deferred, Self::Warm, Self::Cold, Self::Recompressed];
}

/// Why an entry was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    /// So many bytes of memory have to be granted; with as many as are wanted, the next
    /// entries need none.
    Memory { least: u64, wanted: u64 },
    /// The system has no memory, or the store no segment.
    System,
}

/// A client's segments.
#[derive(Debug)]
pub(crate) struct Log {
    identity: Identity,
    heads: [Mutex<Option<Head>>; Temperature::ALL.len()],
    /// All segments, heads included.
    segments: Mutex<Segments>,
    /// Bytes of pages' entries that are live.
    live: AtomicU64,
    /// Bytes of names.
    names: AtomicU64,
    /// Bytes of memory behind the segments.
    backed: AtomicU64,
    /// Of these bytes, those of pages that are to be compressed: they go by themselves.
    deferred_live: AtomicU64,
    deferred_backed: AtomicU64,
    /// Places that entries may be put in.
    holes: Mutex<Holes>,
    /// Segments for the next deferred pages.
    spare: Mutex<Spare>,
    /// How many these are.
    spare_segments: AtomicU32,
    /// Segments in the spill area. Nothing of them counts above.
    spilled: Mutex<Segments>,
    spilled_segments: AtomicU64,
    /// Bytes and number of pages' entries in them that are live.
    spilled_live: AtomicU64,
    spilled_pages: AtomicU64,
}

#[derive(Debug, Default)]
struct Segments {
    list: Vec<u32>,
    /// Where the next look for a victim begins.
    next: usize,
    /// Where the next look for a cold one begins.
    next_cold: usize,
    /// Where the next look for the oldest begins.
    next_oldest: usize,
}

/// Where a look through a list of segments goes on.
type Cursor = fn(&mut Segments) -> &mut usize;

impl Segments {
    /// Segments looked at before the best of them is taken.
    const LOOKS: usize = 512;

    /// The segment that is `worth` most, the first of several, out of `looks` that were not looked
    /// at for long; or the next one that is worth anything.
    fn best<W: Ord>(
        &mut self,
        arena: &Arena,
        cursor: Cursor,
        looks: usize,
        worth: impl Fn(&Segment) -> Option<W>,
    ) -> Option<u32> {
        let len = self.list.len();
        let mut best: Option<(W, u32)> = None;
        for looked in 0..len {
            if looked >= looks && best.is_some() {
                break;
            }
            let next = cursor(self);
            let at = *next % len;
            *next = at + 1;
            let Some(number) = self.list.get(at).copied() else {
                break;
            };
            let worth = arena.segment(number).and_then(&worth);
            if let Some(worth) = worth
                && best.as_ref().is_none_or(|(best, _)| worth > *best)
            {
                best = Some((worth, number));
            }
        }
        best.map(|(_, number)| number)
    }

    /// Adds a segment to which nobody refers, with nothing in it; `None` if there is no memory for
    /// the list.
    fn add<'a>(&mut self, arena: &'a Arena, number: u32) -> Option<&'a Segment> {
        let segment = arena.segment(number)?;
        self.list.try_reserve(1).ok()?;
        let place = u32::try_from(self.list.len()).ok()?;
        self.list.push(number);
        segment.place.store(place, Relaxed);
        segment.live.store(0, Relaxed);
        segment.is_sealed.store(false, Relaxed);
        segment.is_cleaned.store(false, Relaxed);
        Some(segment)
    }

    /// Takes a segment out of the list, if it is there.
    fn remove(&mut self, arena: &Arena, number: u32) {
        let place = arena
            .segment(number)
            .map(|segment| segment.place.load(Relaxed) as usize);
        let Some(place) = place.filter(|place| self.list.get(*place) == Some(&number)) else {
            return;
        };
        self.list.swap_remove(place);
        let moved = self.list.get(place).and_then(|moved| arena.segment(*moved));
        if let Some(moved) = moved {
            moved.place.store(to_u32(place), Relaxed);
        }
        if self.list.capacity() > 1024 && self.list.len() < self.list.capacity() / 4 {
            let least = self.list.capacity() / 2;
            self.list.shrink_to(least);
        }
    }
}

impl Log {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            heads: Default::default(),
            segments: Mutex::default(),
            live: AtomicU64::new(0),
            names: AtomicU64::new(0),
            backed: AtomicU64::new(0),
            deferred_live: AtomicU64::new(0),
            deferred_backed: AtomicU64::new(0),
            holes: Mutex::default(),
            spare: Mutex::default(),
            spare_segments: AtomicU32::new(0),
            spilled: Mutex::default(),
            spilled_segments: AtomicU64::new(0),
            spilled_live: AtomicU64::new(0),
            spilled_pages: AtomicU64::new(0),
        }
    }

    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn head(&self, temperature: Temperature) -> MutexGuard<'_, Option<Head>> {
        let [deferred, warm, cold, recompressed] = &self.heads;
        let head = match temperature {
            Temperature::Deferred => deferred,
            Temperature::Warm => warm,
            Temperature::Cold => cold,
            Temperature::Recompressed => recompressed,
        };
        head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of memory that hold nothing, but for what pages have left that were to be
    /// compressed.
    pub(crate) fn dead_bytes(&self) -> u64 {
        let [live, names, deferred_live] =
            [&self.live, &self.names, &self.deferred_live].map(|bytes| bytes.load(Relaxed));
        let [backed, deferred] =
            [&self.backed, &self.deferred_backed].map(|bytes| bytes.load(Relaxed));
        (backed + deferred_live).saturating_sub(deferred + live + names)
    }

    /// Counts memory behind segments of a temperature, or of pages that are to be compressed.
    fn count_backed(&self, bytes: u64, is_deferred: bool) {
        self.backed.fetch_add(bytes, Relaxed);
        if is_deferred {
            self.deferred_backed.fetch_add(bytes, Relaxed);
        }
    }

    /// Counts memory that is no longer behind segments.
    fn uncount_backed(&self, bytes: u64, is_deferred: bool) {
        self.backed.fetch_sub(bytes, Relaxed);
        if is_deferred {
            self.deferred_backed.fetch_sub(bytes, Relaxed);
        }
    }

    /// Counts bytes of a new entry.
    fn count_live(&self, bytes: usize, is_deferred: bool) {
        self.live.fetch_add(bytes as u64, Relaxed);
        if is_deferred {
            self.deferred_live.fetch_add(bytes as u64, Relaxed);
        }
    }

    /// Bytes of memory behind the segments.
    pub(crate) fn backed_bytes(&self) -> u64 {
        self.backed.load(Relaxed)
    }

    /// Appends an entry with `payload`. Takes memory out of `grant`, which the caller
    /// was charged for; what is left of it is to be credited, also after an error.
    pub(crate) fn append(
        &self,
        arena: &Arena,
        temperature: Temperature,
        owner: &Owner<'_>,
        payload: Payload<'_>,
        grant: &mut u64,
    ) -> Result<Entry, Short> {
        let len = u16::try_from(payload.bytes.len()).map_err(|_| Short::System)?;
        let kind = (payload.codec, len);
        let mut draft = self.reserve(arena, temperature, owner, kind, grant)?;
        arena.mapping.fill(&mut draft, payload.bytes);
        let Draft {
            location,
            word,
            index,
        } = draft;
        if let Some(place) = arena.place(location) {
            let word = word.complete(place, index, payload.bytes);
            let _ = arena
                .mapping
                .store(location.segment(), location.offset(), word);
        }
        Ok(Entry::new(location))
    }

    fn reserve(
        &self,
        arena: &Arena,
        temperature: Temperature,
        owner: &Owner<'_>,
        kind: (Codec, u16),
        grant: &mut u64,
    ) -> Result<Draft, Short> {
        let (_, len) = kind;
        let is_deferred = temperature == Temperature::Deferred;
        let mut place = self.head(temperature);
        if let Some(head) = &mut *place {
            let segment = arena.segment(head.segment).ok_or(Short::System)?;
            // Acquire: who freed its entries has done with them.
            if segment.refs() == 1 {
                *head = self.begin(arena, segment, head.segment, head.backed)?;
            }
            let before = *grant;
            let step = self.step(temperature);
            let draft = head.append(arena, segment, owner, kind, (grant, step), &self.names);
            self.count_backed(before - *grant, is_deferred);
            if let Some(draft) = draft? {
                self.count_live(footprint(len.into()), is_deferred);
                return Ok(draft);
            }
        }
        let spare = self.backs_whole(temperature).then(|| self.take_spare());
        let (number, first) = match spare.flatten() {
            Some(number) => (number, SEGMENT),
            None => {
                // A client's first pages may well be its only ones.
                let step = place.as_ref().map_or(PIECE, |_| self.step(temperature));
                Self::acquire(arena, len, (grant, step))?
            }
        };
        let segment = arena.segment(number).ok_or(Short::System)?;
        if !self.enlist(arena, number, first, temperature) {
            arena.release(number, first);
            *grant += first as u64;
            return Err(Short::System);
        }
        self.count_backed(first as u64, is_deferred);
        let closed = place.replace(self.begin(arena, segment, number, first)?);
        if let Some(closed) = closed {
            // Whatever comes back is as good as a grant that is not used.
            *grant += self.close(arena, &closed, arena.now());
        }
        let head = place.as_mut().ok_or(Short::System)?;
        let draft = head.append(arena, segment, owner, kind, (&mut 0, PIECE), &self.names)?;
        let draft = draft.ok_or(Short::System)?;
        self.count_live(footprint(len.into()), is_deferred);
        Ok(draft)
    }

    /// Whether segments are better backed whole: what is backed is soon full, or is little
    /// beside what the client has.
    fn backs_whole(&self, temperature: Temperature) -> bool {
        match temperature {
            Temperature::Deferred => true,
            Temperature::Warm => self.backed_bytes() >= 128 * SEGMENT as u64,
            // Whoever moves entries has just as much memory as it needs.
            Temperature::Cold | Temperature::Recompressed => false,
        }
    }

    /// Bytes by which a segment is backed, if they can be had.
    fn step(&self, temperature: Temperature) -> usize {
        if self.backs_whole(temperature) {
            SEGMENT
        } else {
            PIECE
        }
    }

    /// A segment, with memory for an entry out of `grant`, and bytes of it.
    fn acquire(
        arena: &Arena,
        len: u16,
        (grant, step): (&mut u64, usize),
    ) -> Result<(u32, usize), Short> {
        let least = SegmentHeader::BYTES + NAME + footprint(len.into());
        let first = head::backing(*grant, least, step.min(SEGMENT))?;
        let number = arena.acquire().ok_or(Short::System)?;
        if !arena.back(number, 0, first) {
            arena.release(number, first);
            return Err(Short::System);
        }
        *grant -= first as u64;
        Ok((number, first))
    }

    /// Begins to use a segment, in which there is no entry of anybody.
    fn begin(
        &self,
        arena: &Arena,
        segment: &Segment,
        number: u32,
        backed: usize,
    ) -> Result<Head, Short> {
        let sequence = arena.next_sequence();
        let header = SegmentHeader {
            identity: self.identity,
            sequence,
        };
        let [first, rest @ ..] = header.encode();
        let store = |offset, word| {
            let stored = arena.mapping.store(number, offset, word);
            stored.ok_or(Short::System)
        };
        // Free until all of it is there, whatever it was before.
        store(0, 0)?;
        for (nth, word) in (1..).zip(rest) {
            store(nth * ALIGN, word)?;
        }
        store(SegmentHeader::BYTES, 0)?;
        store(0, first)?;
        segment.sequence.store(sequence, Relaxed);
        self.forget_names(segment);
        segment.used.store(to_u32(SegmentHeader::BYTES), Relaxed);
        Ok(Head {
            segment: number,
            sequence,
            used: SegmentHeader::BYTES,
            backed,
            names: Names::NONE,
            seen: (0, 0),
        })
    }

    /// A segment's names are needed no longer.
    fn forget_names(&self, segment: &Segment) {
        let bytes = segment.names.swap(0, Relaxed);
        self.names.fetch_sub(bytes.into(), Relaxed);
    }

    /// Makes a segment one of the client's, and a head; whether there is memory for
    /// the list.
    fn enlist(&self, arena: &Arena, number: u32, backed: usize, temperature: Temperature) -> bool {
        let mut segments = self.segments();
        let Some(segment) = segments.add(arena, number) else {
            return false;
        };
        segment.used.store(0, Relaxed);
        segment.backed.store(to_u32(backed), Relaxed);
        let is_deferred = temperature == Temperature::Deferred;
        segment.is_deferred.store(is_deferred, Relaxed);
        let is_recompressed = temperature == Temperature::Recompressed;
        segment.is_recompressed.store(is_recompressed, Relaxed);
        segment.first_ref();
        true
    }

    /// Ends that a segment is a head; bytes of memory given back.
    fn close(&self, arena: &Arena, head: &Head, since: u64) -> u64 {
        if let Some(segment) = arena.segment(head.segment) {
            segment.unused_since.store(since, Relaxed);
            segment.is_sealed.store(true, Release);
        }
        self.count_down(arena, head.segment, Segment::unhold).1
    }

    /// Counts a reference down by `down`; how many there were, and bytes of memory given
    /// back.
    fn count_down(
        &self,
        arena: &Arena,
        number: u32,
        down: impl FnOnce(&Segment) -> u32,
    ) -> (u32, u64) {
        let Some(segment) = arena.segment(number) else {
            return (0, 0);
        };
        let refs = down(segment);
        if refs != 1 {
            return (refs, 0);
        }
        fence(Acquire);
        (refs, self.release(arena, number, segment))
    }

    /// Counts a reference down, without a lock held; bytes of memory given back.
    fn unref(&self, arena: &Arena, number: u32) -> u64 {
        self.unref_by(arena, number, Segment::unhold)
    }

    fn unref_by(&self, arena: &Arena, number: u32, down: impl FnOnce(&Segment) -> u32) -> u64 {
        let (refs, bytes) = self.count_down(arena, number, down);
        if refs <= 2 && self.live.load(Relaxed) == 0 {
            // The client has nothing left but empty heads.
            return bytes + self.retire(arena, usize::MAX);
        }
        bytes
    }

    /// Gives back a segment to which nobody refers any more.
    fn release(&self, arena: &Arena, number: u32, segment: &Segment) -> u64 {
        if segment.slot().is_some() {
            return self.release_spilled(arena, number);
        }
        self.segments().remove(arena, number);
        self.forget_names(segment);
        if self.keep_spare(arena, number, segment) {
            return 0;
        }
        let bytes = u64::from(segment.backed.load(Relaxed));
        self.uncount_backed(bytes, segment.is_deferred.load(Relaxed));
        arena.release(number, segment.backed.load(Relaxed) as usize);
        bytes
    }

    /// Gives back heads without entries, and up to `most` spare segments; bytes of memory given
    /// back.
    pub(crate) fn retire(&self, arena: &Arena, most: usize) -> u64 {
        let mut bytes = 0;
        for temperature in Temperature::ALL {
            self.retire_head(arena, temperature, |head| bytes += head);
        }
        self.drop_spare(arena, most, |spare| bytes += spare);
        bytes
    }

    /// Gives a head without entries back. `credit` is told its bytes before who does the same
    /// finds none.
    pub(crate) fn retire_head(
        &self,
        arena: &Arena,
        temperature: Temperature,
        credit: impl FnOnce(u64),
    ) {
        let mut head = self.head(temperature);
        let is_empty = |head: &mut Head| {
            let segment = arena.segment(head.segment);
            segment.is_some_and(|segment| segment.refs() == 1)
        };
        if let Some(empty) = head.take_if(is_empty) {
            credit(self.close(arena, &empty, arena.now()));
        }
    }

    /// Bytes of memory that pages can still be appended to.
    pub(crate) fn room(&self) -> u64 {
        let room = |temperature| {
            let head = self.head(temperature);
            head.as_ref().map_or(0, |head| head.backed - head.used) as u64
        };
        room(Temperature::Warm) + room(Temperature::Cold) + room(Temperature::Recompressed)
    }

    /// Frees an entry; bytes of memory given back, which are to be credited. With `reuse`,
    /// [`Log::fill`] may have its place.
    pub(crate) fn free(&self, arena: &Arena, entry: Entry, reuse: bool) -> u64 {
        let bytes = entry.footprint();
        let location = entry.into_location();
        let number = location.segment();
        arena.mark_dead(location);
        if let Some(segment) = arena.segment(number) {
            segment.live.fetch_sub(to_u32(bytes), Relaxed);
            if segment.slot().is_some() {
                self.uncount_spilled(bytes);
                return self.unref(arena, number);
            }
            if segment.is_deferred.load(Relaxed) {
                self.deferred_live.fetch_sub(bytes as u64, Relaxed);
            }
        }
        self.live.fetch_sub(bytes as u64, Relaxed);
        if reuse {
            self.remember(arena, location);
        }
        self.unref(arena, number)
    }

    /// Keeps an entry's payload in place.
    pub(crate) fn pin(&self, arena: &Arena, entry: EntryRef<'_>) -> Pin {
        let location = entry.location();
        if let Some(segment) = arena.segment(location.segment()) {
            // The entry is a reference, so there is one.
            segment.pin();
        }
        Pin::new(location)
    }

    /// Ends a pin; bytes of memory given back, which are to be credited.
    pub(crate) fn unpin(&self, arena: &Arena, pin: Pin) -> u64 {
        self.unref_by(arena, pin.location().segment(), Segment::unpin)
    }
}
