// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Segments that an earlier store has left.

use super::super::entry::{Entry, Location};
use super::super::format::{self, ALIGN, Damaged, Extent, Found, footprint};
use super::super::owner::PoolTag;
use super::super::segments::{Arena, Left};
use super::super::{PIECE, SEGMENT};
use super::head::to_u32;
use super::{Log, Temperature};
use crate::sync::atomic::Ordering::{Relaxed, Release};

/// A segment that an earlier store has left, and that was found to be as it was written.
/// Its live pages are in `N` parts.
#[derive(Debug)]
#[must_use = "a segment that nobody has is memory lost"]
pub(crate) struct Scanned<const N: usize> {
    left: Left,
    extent: Extent,
    /// Live pages, and their bytes.
    count: u32,
    live: u32,
    pools: Vec<PoolTag>,
    parts: [Vec<Found>; N],
}

impl<const N: usize> Scanned<N> {
    /// The pools of its live pages, in the order in which they come.
    pub(crate) fn pools(&self) -> &[PoolTag] {
        &self.pools
    }

    /// How many live pages it has.
    pub(crate) fn pages(&self) -> usize {
        self.count as usize
    }

    /// The segment, of which nothing was taken over.
    pub(crate) fn into_left(self) -> Left {
        self.left
    }
}

/// A segment that a log has taken over.
#[derive(Debug)]
#[must_use = "a segment that stays referred to is memory lost"]
pub(crate) struct Adopted {
    segment: u32,
    /// Bytes of memory behind it, which are to be charged.
    pub(crate) bytes: u64,
}

/// A part of the live pages of a segment that a log has taken over.
#[derive(Debug)]
#[must_use = "pages that nobody has are memory lost"]
pub(crate) struct Part {
    segment: u32,
    pages: Vec<Found>,
}

/// A live page that an earlier store has left.
#[derive(Debug)]
pub(crate) struct LeftPage {
    pub(crate) found: Found,
    pub(crate) entry: Entry,
    /// Entries before it in the segment have lower ones, below [`Part::PLACES`].
    pub(crate) place: u64,
}

impl Part {
    /// Places of entries in a segment.
    pub(crate) const PLACES: u64 = (SEGMENT / ALIGN) as u64;

    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Its pages, in the order in which they were appended.
    pub(crate) fn into_pages(self) -> impl Iterator<Item = LeftPage> {
        let segment = self.segment;
        self.pages.into_iter().map(move |found| {
            let word = found.word;
            // The scan found each entry once, and is consumed.
            let location = Location::new(segment, found.offset, word.codec, word.len);
            LeftPage {
                entry: Entry::new(location),
                place: (found.offset / ALIGN) as u64,
                found,
            }
        })
    }
}

impl Arena {
    /// Looks through a segment that an earlier store has left; `part_of` says to which part
    /// a page belongs. Uses all of `buffer`.
    ///
    /// # Errors
    /// The segment, when it is not as it was written, or cannot be read.
    pub(crate) fn scan<const N: usize>(
        &self,
        left: Left,
        buffer: &mut [u8; SEGMENT],
        part_of: impl Fn(&Found) -> usize,
    ) -> Result<Scanned<N>, Left> {
        let (mut count, mut live, mut pools) = (0, 0, Vec::new());
        /// Live pages of a part for which there is room at once.
        const USUAL: usize = 16;
        let mut parts = std::array::from_fn(|_| Vec::with_capacity(USUAL));
        let found = |page: Found| {
            count += 1;
            live += to_u32(footprint(page.word.len.into()));
            if pools.last() != Some(&page.pool) && !pools.contains(&page.pool) {
                pools.push(page.pool);
            }
            if let Some(part) = parts.get_mut(part_of(&page) % N) {
                part.push(page);
            }
        };
        let read = self.mapping.read(left.number(), buffer);
        let scanned = read
            .map_err(|_| Damaged)
            .and_then(|()| format::scan(buffer, left.header(), found));
        let Ok(extent) = scanned else {
            return Err(left);
        };
        // Nobody refers to it, so that what lies behind its end may go.
        let _ = self.mapping.punch(left.number(), backed(&extent));
        Ok(Scanned {
            left,
            extent,
            count,
            live,
            pools,
            parts,
        })
    }
}

/// Bytes from the start of a segment that are backed with memory.
fn backed(extent: &Extent) -> usize {
    extent.used.next_multiple_of(PIECE).min(SEGMENT)
}

impl Log {
    /// Takes over a segment that an earlier store has left. To be ended by
    /// [`Log::adopted`], once its pages are in an index or freed.
    ///
    /// # Errors
    /// The segment, when there is no memory.
    pub(crate) fn adopt<const N: usize>(
        &self,
        arena: &Arena,
        scanned: Scanned<N>,
    ) -> Result<(Adopted, [Part; N]), Left> {
        let Scanned { left, extent, .. } = scanned;
        let (number, backed) = (left.number(), backed(&extent));
        let enlisted = self.enlist(arena, number, backed, Temperature::Warm);
        let Some(segment) = arena.segment(number).filter(|_| enlisted) else {
            return Err(left);
        };
        segment.sequence.store(left.header().sequence, Relaxed);
        segment.unused_since.store(arena.now(), Relaxed);
        segment.used.store(to_u32(extent.used), Relaxed);
        segment.names.store(to_u32(extent.names), Relaxed);
        segment.live.store(scanned.live, Relaxed);
        segment.hold_for(scanned.count);
        self.names.fetch_add(extent.names as u64, Relaxed);
        self.backed.fetch_add(backed as u64, Relaxed);
        self.count_live(scanned.live as usize, false);
        let adopted = Adopted {
            segment: number,
            bytes: backed as u64,
        };
        let parts = scanned.parts.map(|pages| Part {
            segment: number,
            pages,
        });
        Ok((adopted, parts))
    }

    /// Ends the taking over of a segment; bytes of memory given back.
    pub(crate) fn adopted(&self, arena: &Arena, adopted: Adopted) -> u64 {
        if let Some(segment) = arena.segment(adopted.segment) {
            segment.is_sealed.store(true, Release);
        }
        self.unref(arena, adopted.segment)
    }
}
