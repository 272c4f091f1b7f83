// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Segments that are appended to.

use super::super::entry::{Draft, Location};
use super::super::format::{ALIGN, MAX_NAMES, NAME, Place, State, Word, footprint, to_u16};
use super::super::owner::{Codec, Owner, PoolTag};
use super::super::segments::{Arena, Segment};
use super::super::{PIECE, SEGMENT};
use super::Short;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::types::ObjectId;

/// Names written to a head lately. A name that is not found is written again.
#[derive(Debug)]
pub(super) struct Names {
    count: u16,
    known: [Option<(PoolTag, ObjectId, u16)>; Self::KNOWN],
}

impl Names {
    const KNOWN: usize = 32;

    pub(super) const NONE: Self = Self {
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
pub(super) struct Head {
    pub(super) segment: u32,
    /// Of this use of the segment.
    pub(super) sequence: u64,
    pub(super) used: usize,
    pub(super) backed: usize,
    pub(super) names: Names,
    /// The end when it was last found to have moved, and when that was.
    pub(super) seen: (usize, u64),
}

impl Head {
    /// Appends an entry, unless it does not fit.
    pub(super) fn append(
        &mut self,
        arena: &Arena,
        segment: &Segment,
        owner: &Owner<'_>,
        (codec, len): (Codec, u16),
        (grant, step): (&mut u64, usize),
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
            let step = step.min(SEGMENT - self.backed);
            let more = backing(*grant, end - self.backed, step)?;
            if !arena.back(self.segment, self.backed, self.backed + more) {
                return Err(Short::System);
            }
            *grant -= more as u64;
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
        segment.hold();
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

/// Bytes to back for an entry that needs `least`: `step` if they are granted.
pub(super) fn backing(grant: u64, least: usize, step: usize) -> Result<usize, Short> {
    let least = least.next_multiple_of(PIECE);
    let wanted = least.max(step);
    let granted = usize::try_from(grant).unwrap_or(usize::MAX);
    if granted >= wanted {
        Ok(wanted)
    } else if granted >= least {
        Ok(least)
    } else {
        let (least, wanted) = (least as u64, wanted as u64);
        Err(Short::Memory { least, wanted })
    }
}

/// Less than [`SEGMENT`] or as much.
#[expect(clippy::cast_possible_truncation, reason = "a segment is small")]
pub(super) fn to_u32(bytes: usize) -> u32 {
    bytes as u32
}
