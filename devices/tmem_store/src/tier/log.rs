// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The log of one client: entries are appended to a head for each temperature.
//!
//! A head's lock is held while its end moves and headers are written, not while
//! payloads are. Below it come the list of segments, then the arena's free ones.

use crate::sync::atomic::{AtomicU64, Ordering::*, fence};
use crate::sync::{Mutex, MutexGuard, PoisonError};

use super::entry::{Codec, Draft, Entry, EntryRef, Location, Owner, Payload, Pin, PoolTag, Victim};
use super::format::{
    self, ALIGN, Damaged, Found, HEADER, MAX_NAMES, NAME, Place, SegmentHeader, State, Word,
    footprint,
};
use super::segments::{Arena, Left, Segment};
use super::{PIECE, SEGMENT};
use crate::types::{Identity, ObjectId};

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
    Frozen,
}

const TEMPERATURES: usize = 4;

/// Why an entry was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    /// So many bytes of memory have to be granted.
    Memory(u64),
    /// The system has no memory, or the store no segment.
    System,
}

/// An entry of a victim.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moved {
    /// Number of a name, pool and object.
    Name(u16, PoolTag, ObjectId),
    /// A complete page: where it is, number of its object's name, and its index.
    Page(Location, u16, u64),
    /// Nothing to be moved.
    Other,
}

/// Names written to a head lately. A name that is not found is written again.
#[derive(Debug)]
struct Names {
    count: u16,
    known: [Option<(PoolTag, ObjectId, u16)>; Self::KNOWN],
}

impl Names {
    const KNOWN: usize = 32;

    const NONE: Self = Self {
        count: 0,
        known: [None; Self::KNOWN],
    };

    fn place(owner: &Owner<'_>) -> usize {
        let mut mixed = owner.pool.word();
        for word in owner.object.as_chunks::<8>().0 {
            mixed = (mixed ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (mixed >> 32) as usize % Self::KNOWN
    }

    fn find(&self, owner: &Owner<'_>) -> Option<u16> {
        let (pool, object, name) = self.known.get(Self::place(owner))?.as_ref()?;
        (*pool == owner.pool && object == owner.object).then_some(*name)
    }

    /// The number of a name that is to be written.
    fn add(&mut self, owner: &Owner<'_>) -> u16 {
        let name = self.count;
        self.count += 1;
        if let Some(place) = self.known.get_mut(Self::place(owner)) {
            *place = Some((owner.pool, *owner.object, name));
        }
        name
    }
}

/// A segment that is appended to.
#[derive(Debug)]
struct Head {
    segment: u32,
    /// Of this use of the segment.
    sequence: u64,
    used: usize,
    backed: usize,
    names: Names,
    /// The end when it was last found to have moved, and when that was.
    seen: (usize, u64),
}

impl Head {
    /// Appends an entry, unless it does not fit.
    fn append(
        &mut self,
        arena: &Arena,
        segment: &Segment,
        owner: &Owner<'_>,
        (codec, len): (Codec, u16),
        grant: &mut u64,
        names: &AtomicU64,
    ) -> Result<Option<Draft>, Short> {
        let known = self.names.find(owner);
        let name = if known.is_some() { 0 } else { NAME };
        let takes = footprint(usize::from(len));
        let end = self.used + name + takes;
        if end > SEGMENT || (known.is_none() && self.names.count >= MAX_NAMES) {
            return Ok(None);
        }
        if end > self.backed {
            let more = (end - self.backed).next_multiple_of(PIECE);
            let rest = grant.checked_sub(more as u64);
            let rest = rest.ok_or(Short::Memory(more as u64))?;
            if !arena.back(self.segment, self.backed, self.backed + more) {
                return Err(Short::System);
            }
            *grant = rest;
            self.backed += more;
            segment.backed.fetch_add(to_u32(more), Relaxed);
        }
        let name = match known {
            Some(name) => name,
            None => {
                segment.names.fetch_add(to_u32(NAME), Relaxed);
                names.fetch_add(NAME as u64, Relaxed);
                self.write_name(arena, owner)?
            }
        };
        let location = Location::new(self.segment, self.used, codec, len);
        let word = Word {
            state: State::Open,
            is_name: false,
            codec,
            len,
            name,
        };
        let first = word.without_payload(self.place());
        self.write(arena, first, owner.index, len)?;
        segment.refs.fetch_add(1, Relaxed);
        segment.open.fetch_add(1, Relaxed);
        segment.live.fetch_add(to_u32(takes), Relaxed);
        segment.used.store(to_u32(self.used), Relaxed);
        Ok(Some(Draft {
            location,
            word,
            index: owner.index,
        }))
    }

    fn place(&self) -> Place {
        Place {
            sequence: self.sequence,
            offset: self.used,
        }
    }

    /// Writes a header at the end of the segment and moves the end.
    fn write(&mut self, arena: &Arena, first: u64, second: u64, len: u16) -> Result<(), Short> {
        let end = self.used + footprint(usize::from(len));
        let mapping = &arena.mapping;
        if end + ALIGN <= self.backed {
            // Something else may have been there.
            mapping.store(self.segment, end, 0).ok_or(Short::System)?;
        }
        mapping
            .store(self.segment, self.used + ALIGN, second)
            .and_then(|()| mapping.store(self.segment, self.used, first))
            .ok_or(Short::System)?;
        self.used = end;
        Ok(())
    }

    fn write_name(&mut self, arena: &Arena, owner: &Owner<'_>) -> Result<u16, Short> {
        let name = self.names.add(owner);
        let len = to_u16(size_of::<ObjectId>());
        let word = Word {
            state: State::Live,
            is_name: true,
            codec: Codec::Raw,
            len,
            name,
        };
        let mut draft = Draft {
            location: Location::new(self.segment, self.used, Codec::Raw, len),
            word,
            index: owner.pool.word(),
        };
        arena.mapping.fill(&mut draft, owner.object);
        let first = word.live(self.place(), draft.index, owner.object);
        self.write(arena, first, draft.index, len)?;
        Ok(name)
    }
}

/// What a log has taken over with a segment.
#[derive(Debug)]
#[must_use = "a segment that stays referred to is memory lost"]
pub(crate) struct Adopted {
    segment: u32,
    /// Bytes of memory behind it, which are to be charged.
    pub(crate) bytes: u64,
    /// Its pages, in the order in which they were appended.
    pub(crate) pages: Vec<(Found, Entry)>,
}

/// Less than [`SEGMENT`] or as much.
#[expect(clippy::cast_possible_truncation, reason = "a segment is small")]
fn to_u32(bytes: usize) -> u32 {
    bytes as u32
}

/// At most a page.
#[expect(clippy::cast_possible_truncation, reason = "a page is small")]
fn to_u16(bytes: usize) -> u16 {
    bytes as u16
}

/// A client's segments.
#[derive(Debug)]
pub(crate) struct Log {
    identity: Identity,
    heads: [Mutex<Option<Head>>; TEMPERATURES],
    /// All segments, heads included.
    segments: Mutex<Segments>,
    /// Bytes of pages' entries that are live.
    live: AtomicU64,
    /// Bytes of names.
    names: AtomicU64,
    /// Bytes of memory behind the segments.
    backed: AtomicU64,
    /// Bytes behind segments of pages that are to be compressed, which are not
    /// cleaned.
    deferred: AtomicU64,
}

#[derive(Debug, Default)]
struct Segments {
    list: Vec<u32>,
    /// Where the next look for a victim begins.
    next: usize,
    /// Where the next look for a cold one begins.
    next_cold: usize,
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
            deferred: AtomicU64::new(0),
        }
    }

    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn head(&self, temperature: Temperature) -> MutexGuard<'_, Option<Head>> {
        let [deferred, warm, cold, frozen] = &self.heads;
        let head = match temperature {
            Temperature::Deferred => deferred,
            Temperature::Warm => warm,
            Temperature::Cold => cold,
            Temperature::Frozen => frozen,
        };
        head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of memory that hold nothing, outside of segments that empty by
    /// themselves.
    pub(crate) fn dead_bytes(&self) -> u64 {
        let backed = self.backed.load(Relaxed);
        backed.saturating_sub(self.live.load(Relaxed) + self.names.load(Relaxed))
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
        let mut place = self.head(temperature);
        if let Some(head) = &mut *place {
            let segment = arena.segment(head.segment).ok_or(Short::System)?;
            // Acquire: who freed its entries has done with them.
            if segment.refs.load(Acquire) == 1 {
                *head = self.begin(arena, segment, head.segment, head.backed)?;
            }
            let before = *grant;
            let draft = head.append(arena, segment, owner, kind, grant, &self.names);
            self.took(temperature, before - *grant);
            if let Some(draft) = draft? {
                self.live.fetch_add(footprint(len.into()) as u64, Relaxed);
                return Ok(draft);
            }
        }
        let least = SegmentHeader::BYTES + NAME + footprint(len.into());
        let first = least.next_multiple_of(PIECE);
        let rest = grant.checked_sub(first as u64);
        let rest = rest.ok_or(Short::Memory(first as u64))?;
        let number = arena.acquire().ok_or(Short::System)?;
        let segment = arena.segment(number).ok_or(Short::System)?;
        if !arena.back(number, 0, first) || !self.enlist(arena, number, first, temperature) {
            arena.release(number, first);
            return Err(Short::System);
        }
        *grant = rest;
        self.took(temperature, first as u64);
        let closed = place.replace(self.begin(arena, segment, number, first)?);
        if let Some(closed) = closed {
            // Whatever comes back is as good as a grant that is not used.
            *grant += self.close(arena, &closed, arena.now());
        }
        let head = place.as_mut().ok_or(Short::System)?;
        let draft = head.append(arena, segment, owner, kind, &mut 0, &self.names)?;
        let draft = draft.ok_or(Short::System)?;
        self.live.fetch_add(footprint(len.into()) as u64, Relaxed);
        Ok(draft)
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

    fn took(&self, temperature: Temperature, bytes: u64) {
        self.backed.fetch_add(bytes, Relaxed);
        if temperature == Temperature::Deferred {
            self.deferred.fetch_add(bytes, Relaxed);
        }
    }

    /// Makes a segment one of the client's, and a head; whether there is memory for
    /// the list.
    fn enlist(&self, arena: &Arena, number: u32, backed: usize, temperature: Temperature) -> bool {
        let mut segments = self.segments();
        let (Some(segment), Ok(())) = (arena.segment(number), segments.list.try_reserve(1)) else {
            return false;
        };
        let Ok(place) = u32::try_from(segments.list.len()) else {
            return false;
        };
        segments.list.push(number);
        segment.used.store(0, Relaxed);
        segment.live.store(0, Relaxed);
        segment.backed.store(to_u32(backed), Relaxed);
        segment.place.store(place, Relaxed);
        segment.is_sealed.store(false, Relaxed);
        let is_deferred = temperature == Temperature::Deferred;
        segment.is_deferred.store(is_deferred, Relaxed);
        segment.is_cleaned.store(false, Relaxed);
        let is_frozen = temperature == Temperature::Frozen;
        segment.is_frozen.store(is_frozen, Relaxed);
        segment.refs.store(1, Release);
        true
    }

    /// Takes over a segment that an earlier store has left. To be ended by
    /// [`Log::adopted`], once its pages are in an index or freed.
    ///
    /// # Errors
    /// [`Damaged`] when it is not as it was written, or cannot be read. It is free
    /// then.
    pub(crate) fn adopt(&self, arena: &Arena, left: Left) -> Result<Adopted, Damaged> {
        let number = left.number();
        let mut bytes = vec![0; SEGMENT];
        let mut found = Vec::new();
        let read = arena.mapping.read(number, &mut bytes);
        let scanned = read
            .map_err(|_| Damaged)
            .and_then(|()| format::scan(&bytes, left.header(), |page| found.push(page)));
        let extent = match scanned {
            Ok(extent) => extent,
            Err(damaged) => {
                arena.discard(left);
                return Err(damaged);
            }
        };
        let backed = extent.used.next_multiple_of(PIECE).min(SEGMENT);
        // Nobody refers to it, so that what lies behind its end may go.
        let _ = arena.mapping.punch(number, backed);
        let enlisted = self.enlist(arena, number, backed, Temperature::Warm);
        let segment = arena.segment(number).filter(|_| enlisted);
        let Some(segment) = segment else {
            arena.discard(left);
            return Err(Damaged);
        };
        segment.sequence.store(left.header().sequence, Relaxed);
        segment.unused_since.store(arena.now(), Relaxed);
        segment.used.store(to_u32(extent.used), Relaxed);
        segment.names.store(to_u32(extent.names), Relaxed);
        self.names.fetch_add(extent.names as u64, Relaxed);
        self.took(Temperature::Warm, backed as u64);
        let mut pages = Vec::with_capacity(found.len());
        for page in found {
            let takes = footprint(page.word.len.into());
            segment.refs.fetch_add(1, Relaxed);
            segment.live.fetch_add(to_u32(takes), Relaxed);
            self.live.fetch_add(takes as u64, Relaxed);
            // The scan found each entry once.
            let location = Location::new(number, page.offset, page.word.codec, page.word.len);
            pages.push((page, Entry::new(location)));
        }
        segment.is_sealed.store(true, Release);
        Ok(Adopted {
            segment: number,
            bytes: backed as u64,
            pages,
        })
    }

    /// Ends the taking over of a segment; bytes of memory given back.
    pub(crate) fn adopted(&self, arena: &Arena, adopted: Adopted) -> u64 {
        self.unref(arena, adopted.segment)
    }

    /// Ends that a segment is a head; bytes of memory given back.
    fn close(&self, arena: &Arena, head: &Head, since: u64) -> u64 {
        if let Some(segment) = arena.segment(head.segment) {
            segment.unused_since.store(since, Relaxed);
            segment.is_sealed.store(true, Release);
        }
        self.count_down(arena, head.segment).1
    }

    /// Counts a reference down; how many there were, and bytes of memory given back.
    fn count_down(&self, arena: &Arena, number: u32) -> (u32, u64) {
        let Some(segment) = arena.segment(number) else {
            return (0, 0);
        };
        let refs = segment.refs.fetch_sub(1, Release);
        if refs != 1 {
            return (refs, 0);
        }
        fence(Acquire);
        (refs, self.release(arena, number, segment))
    }

    /// Counts a reference down, without a lock held; bytes of memory given back.
    fn unref(&self, arena: &Arena, number: u32) -> u64 {
        let (refs, bytes) = self.count_down(arena, number);
        if refs <= 2 && self.live.load(Relaxed) == 0 {
            // The client has nothing left but empty heads.
            return bytes + self.retire(arena);
        }
        bytes
    }

    /// Gives back a segment to which nobody refers any more.
    fn release(&self, arena: &Arena, number: u32, segment: &Segment) -> u64 {
        let mut segments = self.segments();
        let place = segment.place.load(Relaxed) as usize;
        if segments.list.get(place) == Some(&number) {
            segments.list.swap_remove(place);
            let moved = segments
                .list
                .get(place)
                .and_then(|moved| arena.segment(*moved));
            if let Some(moved) = moved {
                moved.place.store(to_u32(place), Relaxed);
            }
        }
        if segments.list.capacity() > 1024 && segments.list.len() < segments.list.capacity() / 4 {
            let least = segments.list.capacity() / 2;
            segments.list.shrink_to(least);
        }
        drop(segments);
        self.forget_names(segment);
        let bytes = u64::from(segment.backed.load(Relaxed));
        self.backed.fetch_sub(bytes, Relaxed);
        if segment.is_deferred.load(Relaxed) {
            self.deferred.fetch_sub(bytes, Relaxed);
        }
        arena.release(number, segment.backed.load(Relaxed) as usize);
        bytes
    }

    /// Gives back heads without entries; bytes of memory given back.
    pub(crate) fn retire(&self, arena: &Arena) -> u64 {
        let mut bytes = 0;
        for place in &self.heads {
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            let is_empty = |head: &Head| {
                let segment = arena.segment(head.segment);
                segment.is_some_and(|segment| segment.refs.load(Acquire) == 1)
            };
            let empty = place.take_if(|head| is_empty(head));
            drop(place);
            if let Some(head) = empty {
                bytes += self.close(arena, &head, arena.now());
            }
        }
        bytes
    }

    /// Closes heads of which so many bytes are dead, so that they can be cleaned;
    /// bytes of memory given back.
    pub(crate) fn close_sparse(&self, arena: &Arena, least: u32) -> u64 {
        let mut bytes = 0;
        for temperature in [Temperature::Warm, Temperature::Cold, Temperature::Frozen] {
            let mut place = self.head(temperature);
            let is_sparse = |head: &Head| {
                let segment = arena.segment(head.segment);
                segment.is_some_and(|segment| segment.dead() >= least)
            };
            if let Some(head) = place.take_if(|head| is_sparse(head)) {
                bytes += self.close(arena, &head, arena.now());
            }
        }
        bytes
    }

    /// Bytes of memory that pages can still be appended to.
    pub(crate) fn room(&self) -> u64 {
        let room = |temperature| {
            let head = self.head(temperature);
            head.as_ref().map_or(0, |head| head.backed - head.used) as u64
        };
        room(Temperature::Warm) + room(Temperature::Cold) + room(Temperature::Frozen)
    }

    /// Frees an entry; bytes of memory given back, which are to be credited.
    pub(crate) fn free(&self, arena: &Arena, entry: Entry) -> u64 {
        let bytes = entry.footprint();
        let location = entry.into_location();
        let number = location.segment();
        arena.mark_dead(location);
        if let Some(segment) = arena.segment(number) {
            segment.live.fetch_sub(to_u32(bytes), Relaxed);
        }
        self.live.fetch_sub(bytes as u64, Relaxed);
        self.unref(arena, number)
    }

    /// Keeps an entry's payload in place.
    pub(crate) fn pin(&self, arena: &Arena, entry: EntryRef<'_>) -> Pin {
        let location = entry.location();
        if let Some(segment) = arena.segment(location.segment()) {
            // The entry is a reference, so there is one.
            segment.refs.fetch_add(1, Relaxed);
        }
        Pin::new(location)
    }

    /// Ends a pin; bytes of memory given back, which are to be credited.
    pub(crate) fn unpin(&self, arena: &Arena, pin: Pin) -> u64 {
        self.unref(arena, pin.location().segment())
    }

    /// The segment that is to be cleaned next, by cost and benefit, out of some that
    /// were not looked at for long; at least `least` bytes of it are dead, and at most
    /// `most` of its entries are live.
    pub(crate) fn victim(&self, arena: &Arena, least: u32, most: u32) -> Option<Victim> {
        /// Segments looked at before the best of them is taken.
        const LOOKS: usize = 512;
        /// Bytes that are copied in the time in which a page is looked for.
        const ENTRY_COST: u64 = 1024;
        /// Dead bytes for each entry, without which it does not pay to move any.
        const LEAST_PER_ENTRY: u32 = 8;
        let mut segments = self.segments();
        let len = segments.list.len();
        let mut best: Option<(u64, u32)> = None;
        for looks in 0..len {
            if looks >= LOOKS && best.is_some() {
                break;
            }
            let at = segments.next % len;
            segments.next = at + 1;
            let Some(number) = segments.list.get(at).copied() else {
                break;
            };
            let Some(segment) = arena.segment(number) else {
                continue;
            };
            let dead = segment.dead();
            let entries = segment.refs.load(Relaxed);
            if dead < least.max(entries.saturating_mul(LEAST_PER_ENTRY))
                || entries > most
                || segment.open.load(Relaxed) > 0
                || !segment.is_sealed.load(Relaxed)
                || segment.is_deferred.load(Relaxed)
                || segment.is_cleaned.load(Relaxed)
            {
                continue;
            }
            // Benefit: what comes back, for as long as it may last. Cost: what is
            // read, and what is written.
            let live = u64::from(segment.live.load(Relaxed));
            let age = arena.age(segment.sequence.load(Relaxed));
            let used = live + u64::from(dead);
            let cost = used + live + u64::from(entries) * ENTRY_COST;
            let worth = u64::from(dead) * age * 1024 / cost.max(1);
            if best.is_none_or(|(best, _)| worth > best) {
                best = Some((worth, number));
            }
        }
        let (_, number) = best?;
        self.take(arena, number, segments)
    }

    /// Has a segment of the list be cleaned, unless somebody does so.
    fn take(
        &self,
        arena: &Arena,
        number: u32,
        segments: MutexGuard<'_, Segments>,
    ) -> Option<Victim> {
        // It is the client's while the list is locked.
        let segment = arena.segment(number)?;
        if !segment.try_hold() {
            return None;
        }
        if !segment.is_sealed.load(Acquire) || segment.is_cleaned.swap(true, Relaxed) {
            drop(segments);
            self.unref(arena, number);
            return None;
        }
        let used = segment.used.load(Relaxed) as usize;
        let is_frozen = segment.is_frozen.load(Relaxed);
        Some(Victim::new(number, used, is_frozen))
    }

    /// A segment whose entries can still be made smaller, and to which nothing was
    /// appended for `age` milliseconds.
    pub(crate) fn cold(&self, arena: &Arena, age: u64) -> Option<Victim> {
        let now = arena.now();
        let mut segments = self.segments();
        let len = segments.list.len();
        for _ in 0..len {
            let at = segments.next_cold % len;
            segments.next_cold = at + 1;
            let Some(number) = segments.list.get(at).copied() else {
                break;
            };
            let Some(segment) = arena.segment(number) else {
                continue;
            };
            if segment.is_sealed.load(Acquire)
                && !segment.is_frozen.load(Relaxed)
                && !segment.is_deferred.load(Relaxed)
                && !segment.is_cleaned.load(Relaxed)
                && segment.live.load(Relaxed) > 0
                && now.saturating_sub(segment.unused_since.load(Relaxed)) >= age
            {
                // What stays in it all the same has to wait for another try.
                segment.unused_since.store(now, Relaxed);
                return self.take(arena, number, segments);
            }
        }
        None
    }

    /// Closes heads to which nothing was appended for `age` milliseconds, so that
    /// their segments become cold; bytes of memory given back.
    pub(crate) fn close_unused(&self, arena: &Arena, age: u64) -> u64 {
        let now = arena.now();
        let mut bytes = 0;
        for temperature in [Temperature::Warm, Temperature::Cold] {
            let mut place = self.head(temperature);
            let Some(head) = place
                .as_mut()
                .filter(|head| head.used > SegmentHeader::BYTES)
            else {
                continue;
            };
            if head.seen.0 != head.used {
                head.seen = (head.used, now);
            }
            if now.saturating_sub(head.seen.1) >= age
                && let Some(head) = place.take()
            {
                drop(place);
                bytes += self.close(arena, &head, now.saturating_sub(age));
            }
        }
        bytes
    }

    /// The entry of a victim at `at`, which is moved behind it; `None` at the end.
    pub(crate) fn next(&self, arena: &Arena, victim: &Victim, at: &mut usize) -> Option<Moved> {
        *at = (*at).max(SegmentHeader::BYTES);
        if at.checked_add(HEADER)? > victim.used() {
            return None;
        }
        let word = |offset| arena.mapping.word(victim.segment(), offset);
        let (first, second) = (word(*at)?, word(*at + ALIGN)?);
        // Acquire: with a live entry comes its payload.
        let first = Word::decode(first.load(Acquire))?;
        let location = Location::new(victim.segment(), *at, first.codec, first.len);
        *at += footprint(first.len.into());
        if first.state != State::Live {
            return Some(Moved::Other);
        }
        let second = second.load(Relaxed);
        if !first.is_name {
            return Some(Moved::Page(location, first.name, second));
        }
        let object = arena.mapping.of_victim(victim, location).try_into().ok()?;
        let tag = PoolTag::from_word(second);
        Some(Moved::Name(first.name, tag, object))
    }

    /// Gives a victim back; bytes of memory given back, which are to be credited.
    pub(crate) fn done(&self, arena: &Arena, victim: Victim) -> u64 {
        if let Some(segment) = arena.segment(victim.segment()) {
            segment.is_cleaned.store(false, Relaxed);
        }
        self.unref(arena, victim.segment())
    }
}

impl Arena {
    /// Where the header of an entry is.
    fn place(&self, location: Location) -> Option<Place> {
        let segment = self.segment(location.segment())?;
        Some(Place {
            sequence: segment.sequence.load(Relaxed),
            offset: location.offset(),
        })
    }

    /// Makes a complete entry live.
    pub(crate) fn publish(&self, entry: EntryRef<'_>) {
        let (number, offset) = (entry.location().segment(), entry.location().offset());
        if let Some(word) = self.mapping.word(number, offset) {
            let word = word.load(Relaxed);
            if Word::decode(word).is_some_and(|word| word.state == State::Open) {
                let _ = self.mapping.store(number, offset, word ^ Word::PUBLISH);
                self.no_longer_open(number);
            }
        }
    }

    /// Marks an entry as dead; its holder is yet to free it.
    pub(crate) fn bury(&self, entry: EntryRef<'_>) {
        self.mark_dead(entry.location());
    }

    fn mark_dead(&self, location: Location) {
        let (number, offset) = (location.segment(), location.offset());
        let word = self.mapping.word(number, offset);
        let word = word.and_then(|word| Word::decode(word.load(Relaxed)));
        if let (Some(word), Some(place)) = (word, self.place(location))
            && word.state != State::Dead
        {
            let dead = Word {
                state: State::Dead,
                ..word
            };
            let dead = dead.without_payload(place);
            let _ = self.mapping.store(number, offset, dead);
            if word.state == State::Open {
                self.no_longer_open(number);
            }
        }
    }

    fn no_longer_open(&self, number: u32) {
        if let Some(segment) = self.segment(number) {
            segment.open.fetch_sub(1, Relaxed);
        }
    }

    /// The payload of an entry at rest; `None` if its codec is not known.
    pub(crate) fn payload<'a>(&'a self, entry: EntryRef<'a>) -> Option<Payload<'a>> {
        payload(entry.location(), self.mapping.bytes(entry))
    }

    /// The payload of an entry that is or was at rest; `None` if its codec is not known.
    pub(crate) fn pinned<'a>(&'a self, pin: &'a Pin) -> Option<Payload<'a>> {
        payload(pin.location(), self.mapping.pinned(pin))
    }

    /// The payload of a complete entry of a victim; `None` if its codec is not known.
    pub(crate) fn of_victim<'a>(
        &'a self,
        victim: &'a Victim,
        location: Location,
    ) -> Option<Payload<'a>> {
        payload(location, self.mapping.of_victim(victim, location))
    }
}

fn payload(location: Location, bytes: &[u8]) -> Option<Payload<'_>> {
    let codec = location.codec()?;
    Some(Payload { codec, bytes })
}
