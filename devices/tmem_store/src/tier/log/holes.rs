// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Hole plugging: entries in place of those that were freed, so that a client that
//! overwrites pages in nearly full memory need not have segments cleaned for each of them.
//! (Wilkes, Golding, Staelin and Sullivan, "The HP AutoRAID hierarchical storage system",
//! TOCS 1996; Matthews, Roselli, Costello, Wang and Anderson, "Improving the performance of
//! log-structured file systems with adaptive methods", SOSP 1997.)
//!
//! A *hole* is a freed entry of a sealed segment. Only some are remembered; others wait
//! for the cleaner, as do holes whose page was of an object that is not the segment's
//! first: names are in order, so that no name can be added in the middle.
//!
//! The entry is written while the header still says that the freed one is there, and dead,
//! and becomes a part of the segment by one store of that header's first word.

use super::super::LARGEST;
use super::super::entry::{Draft, Entry, EntryRef, Location};
use super::super::format::{ALIGN, HEADER, Place, SegmentHeader, State, Word, footprint, to_u16};
use super::super::owner::{Codec, Owner, Payload};
use super::super::segments::{Arena, Segment};
use super::Log;
use super::head::to_u32;
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::sync::{MutexGuard, PoisonError};

/// A freed entry in a use of a segment. In that use an entry begins there for good.
#[derive(Clone, Copy, Debug)]
struct Hole {
    location: Location,
    sequence: u64,
}

/// Holes of about the same size.
#[derive(Clone, Copy, Debug)]
struct Bin {
    count: usize,
    holes: [Option<Hole>; Self::MOST],
}

impl Bin {
    /// Bytes by which the sizes of its holes differ.
    const WIDTH: usize = 32;

    /// Holes remembered.
    const MOST: usize = 16;

    const EMPTY: Self = Self {
        count: 0,
        holes: [None; Self::MOST],
    };

    fn push(&mut self, hole: Hole) {
        if let Some(place) = self.holes.get_mut(self.count) {
            *place = Some(hole);
            self.count += 1;
        }
    }

    /// Takes the smallest hole that an entry of so many bytes fits in.
    fn take(&mut self, bytes: usize) -> Option<Hole> {
        let holes = self.holes.get(..self.count)?.iter().zip(0..);
        let fitting = holes.filter_map(|(hole, at)| {
            let size = (*hole)?.location.footprint();
            fits(size, bytes).then_some((size, at))
        });
        let (_, at): (_, usize) = fitting.min()?;
        self.count -= 1;
        self.holes.swap(at, self.count);
        *self.holes.get(self.count)?
    }
}

/// Whether an entry fits in a hole: what is left has to have a header, too.
fn fits(hole: usize, bytes: usize) -> bool {
    hole == bytes || hole >= bytes + HEADER
}

/// The holes that are remembered, by size.
#[derive(Debug, Default)]
pub(super) struct Holes {
    /// Empty until there was a hole.
    bins: Vec<Bin>,
    /// One bit for each bin with holes.
    filled: [u64; 3],
}

/// Bins for entries of any size.
const BINS: usize = LARGEST / Bin::WIDTH + 1;

/// Less is not worth being remembered.
const LEAST: usize = 64;

impl Holes {
    fn push(&mut self, hole: Hole) {
        let size = hole.location.footprint();
        if size < LEAST {
            return;
        }
        if self.bins.is_empty() {
            if self.bins.try_reserve_exact(BINS).is_err() {
                return;
            }
            self.bins.resize(BINS, Bin::EMPTY);
        }
        let nth = size / Bin::WIDTH;
        if let Some(bin) = self.bins.get_mut(nth) {
            bin.push(hole);
            self.mark(nth, true);
        }
    }

    fn mark(&mut self, nth: usize, filled: bool) {
        if let Some(word) = self.filled.get_mut(nth / 64) {
            let bit = 1 << (nth % 64);
            *word = *word & !bit | if filled { bit } else { 0 };
        }
    }

    /// The first bin with holes that is not before this one.
    fn filled_from(&self, nth: usize) -> Option<usize> {
        let mut mask = u64::MAX << (nth % 64);
        for (word, at) in self.filled.iter().zip(0..).skip(nth / 64) {
            let bits = word & mask;
            if bits != 0 {
                return Some(at * 64 + bits.trailing_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }

    /// Takes a hole that an entry of so many bytes fits in, with little left over.
    fn take(&mut self, bytes: usize) -> Option<Hole> {
        let mut from = bytes / Bin::WIDTH;
        while let Some(nth) = self.filled_from(from) {
            let bin = self.bins.get_mut(nth)?;
            let hole = bin.take(bytes);
            let is_empty = bin.count == 0;
            if is_empty {
                self.mark(nth, false);
            }
            if hole.is_some() {
                return hole;
            }
            from = nth + 1;
        }
        None
    }
}

impl Log {
    fn holes(&self) -> MutexGuard<'_, Holes> {
        self.holes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the place of an entry that was just freed and marked as dead. The
    /// segment is to be referred to meanwhile.
    pub(super) fn remember(&self, arena: &Arena, location: Location) {
        let Some(segment) = arena.segment(location.segment()) else {
            return;
        };
        if !segment.can_be_filled() || segment.is_cleaned.load(Relaxed) {
            return;
        }
        let word = arena.mapping.word(location.segment(), location.offset());
        let word = word.and_then(|word| Word::decode(word.load(Relaxed)));
        if word.is_some_and(|word| word.name == FIRST) {
            let sequence = segment.sequence.load(Relaxed);
            self.holes().push(Hole { location, sequence });
        }
    }

    /// Puts an entry in the place of a freed one, if one is remembered in a segment in
    /// which the owner has a name. Adds memory to `grant` that came back on the way.
    pub(crate) fn fill(
        &self,
        arena: &Arena,
        owner: &Owner<'_>,
        payload: Payload<'_>,
        grant: &mut u64,
    ) -> Option<Entry> {
        /// Holes that may turn out to be none any more.
        const TRIES: u32 = 4;
        let takes = footprint(payload.bytes.len());
        for _ in 0..TRIES {
            let hole = self.holes().take(takes)?;
            let number = hole.location.segment();
            let segment = arena.segment(number)?;
            if !segment.try_hold() {
                continue;
            }
            if let Some(entry) = self.fill_hole(arena, segment, hole, owner, payload) {
                return Some(entry);
            }
            *grant += self.unref(arena, number);
        }
        None
    }

    /// As [`Log::fill`]; the reference that is held becomes the entry's.
    fn fill_hole(
        &self,
        arena: &Arena,
        segment: &Segment,
        hole: Hole,
        owner: &Owner<'_>,
        payload: Payload<'_>,
    ) -> Option<Entry> {
        // In this order: a segment that is used anew is not sealed until its sequence is
        // known.
        if !segment.can_be_filled() || segment.sequence.load(Relaxed) != hole.sequence {
            return None;
        }
        if !segment.begin_filling() {
            return None;
        }
        let entry = self.write_in(arena, segment, hole, owner, payload);
        if entry.is_none() {
            segment.no_longer_open();
        }
        entry
    }

    /// Writes an entry in a hole that nobody else reads or writes.
    fn write_in(
        &self,
        arena: &Arena,
        segment: &Segment,
        hole: Hole,
        owner: &Owner<'_>,
        payload: Payload<'_>,
    ) -> Option<Entry> {
        let (mapping, number) = (&arena.mapping, hole.location.segment());
        let at = hole.location.offset();
        let dead = Word::decode(mapping.word(number, at)?.load(Acquire))?;
        let size = footprint(dead.len.into());
        let takes = footprint(payload.bytes.len());
        if dead.state != State::Dead
            || size != hole.location.footprint()
            || !fits(size, takes)
            || !is_first_name(arena, segment, number, owner)
        {
            return None;
        }
        let len = to_u16(payload.bytes.len());
        let word = Word {
            state: State::Open,
            is_name: false,
            codec: payload.codec,
            len,
            name: FIRST,
        };
        let mut draft = Draft {
            location: Location::new(number, at, payload.codec, len),
            word,
            index: owner.index,
        };
        mapping.fill(&mut draft, payload.bytes);
        let sequence = hole.sequence;
        let rest = (size > takes).then(|| {
            let len = to_u16(size - takes - HEADER);
            Location::new(number, at + takes, Codec::Raw, len)
        });
        if let Some(rest) = rest {
            let word = Word {
                state: State::Dead,
                is_name: false,
                codec: Codec::Raw,
                len: to_u16(rest.len()),
                name: FIRST,
            };
            let offset = rest.offset();
            let word = word.without_payload(Place { sequence, offset });
            mapping.store(number, offset, word)?;
        }
        mapping.store(number, at + ALIGN, draft.index)?;
        let place = Place {
            sequence,
            offset: at,
        };
        let word = draft.word.complete(place, draft.index, payload.bytes);
        mapping.store(number, at, word)?;
        segment.live.fetch_add(to_u32(takes), Relaxed);
        self.count_live(takes, false);
        segment.unused_since.store(arena.now(), Relaxed);
        if let Some(location) = rest {
            self.holes().push(Hole { location, sequence });
        }
        Some(Entry::new(draft.location))
    }
}

/// The number of a segment's first name, which is its first entry.
const FIRST: u16 = 0;

/// Whether a segment's first name is the owner's.
fn is_first_name(arena: &Arena, segment: &Segment, number: u32, owner: &Owner<'_>) -> bool {
    let at = SegmentHeader::BYTES;
    let word = |offset| Some(arena.mapping.word(number, offset)?.load(Relaxed));
    let (Some(first), Some(pool)) = (word(at).and_then(Word::decode), word(at + ALIGN)) else {
        return false;
    };
    let location = Location::new(number, at, first.codec, first.len);
    // Names are held by their segment.
    let object = arena.mapping.bytes(EntryRef::new(location, segment));
    first.is_name && pool == owner.pool.word() && object == owner.object
}
