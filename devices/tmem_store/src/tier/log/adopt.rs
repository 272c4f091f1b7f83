// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Segments that an earlier store has left.

use super::super::entry::{Entry, Location};
use super::super::format::{
    self, ALIGN, Damaged, Extent, Found, NAME, Name, SegmentHeader, footprint,
};
use super::super::owner::PoolTag;
use super::super::segments::{Arena, Left};
use super::super::spill::SegmentBlocks;
use super::super::stub::Stub;
use super::super::{PIECE, SEGMENT};
use super::head::to_u32;
use super::{Log, Temperature};
use crate::sync::Arc;
use crate::sync::atomic::Ordering::{Relaxed, Release};
use crate::types::ObjectId;
use std::ops::Range;

/// What a look through segments needs: memory that is used for one after the other.
#[derive(Debug)]
pub(crate) struct Scanner<const N: usize> {
    segment: Box<SegmentBlocks>,
    parts: [Vec<Found>; N],
}

impl<const N: usize> Scanner<N> {
    pub(crate) fn new() -> Self {
        Self {
            segment: Box::new(SegmentBlocks::new()),
            parts: [const { Vec::new() }; N],
        }
    }
}

/// A segment that an earlier store has left, and that was found to be as it was written.
/// Its live pages are in `N` parts.
#[derive(Debug)]
#[must_use = "a segment that nobody has is memory lost"]
pub(crate) struct Scanned<const N: usize> {
    left: Left,
    extent: Extent,
    /// Bytes of its live pages.
    live: u32,
    pools: Vec<PoolTag>,
    /// Its live pages, part by part, and where each part ends.
    pages: Vec<Found>,
    ends: [usize; N],
}

impl<const N: usize> Scanned<N> {
    /// The pools of its live pages, in the order in which they come.
    pub(crate) fn pools(&self) -> &[PoolTag] {
        &self.pools
    }

    /// How many live pages it has.
    pub(crate) fn pages(&self) -> usize {
        self.pages.len()
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
    /// Of the whole segment. No other part has pages of this range.
    pages: Arc<Pages>,
    range: Range<usize>,
}

#[derive(Debug)]
struct Pages {
    segment: u32,
    names: Vec<Name>,
    pages: Vec<Found>,
}

/// A live page that an earlier store has left.
#[derive(Debug)]
pub(crate) struct LeftPage {
    pub(crate) pool: PoolTag,
    pub(crate) object: ObjectId,
    pub(crate) index: u64,
    pub(crate) entry: Entry,
    /// Entries before it in the segment have lower ones, below [`Part::PLACES`].
    pub(crate) place: u64,
}

impl Part {
    /// Places of entries in a segment.
    pub(crate) const PLACES: u64 = (SEGMENT / ALIGN) as u64;

    pub(crate) fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Its pages, in the order in which they were appended.
    pub(crate) fn into_pages(self) -> impl Iterator<Item = LeftPage> {
        let Self { pages, range } = self;
        range.filter_map(move |nth| {
            let found = pages.pages.get(nth)?;
            // A page is found only if its name is.
            let Name { pool, object } = *pages.names.get(usize::from(found.name))?;
            let offset = found.offset as usize;
            // The scan found each entry once, and is consumed; so is the only part that has it.
            let location = Location::new(pages.segment, offset, found.codec, found.len);
            Some(LeftPage {
                pool,
                object,
                index: found.index,
                entry: Entry::new(location),
                place: (offset / ALIGN) as u64,
            })
        })
    }
}

impl Arena {
    /// Looks through a segment that an earlier store has left; `part_of` says to which part
    /// a page of an object belongs.
    ///
    /// # Errors
    /// The segment, when it is not as it was written, or cannot be read.
    pub(crate) fn scan<const N: usize>(
        &self,
        left: Left,
        scanner: &mut Scanner<N>,
        part_of: impl Fn(&ObjectId, u64) -> usize,
    ) -> Result<Scanned<N>, Left> {
        let (mut live, mut pools) = (0, Vec::new());
        let Scanner { segment, parts } = scanner;
        parts.iter_mut().for_each(Vec::clear);
        let found = |name: &Name, page: Found| {
            if left.spilled().is_some() && !self.is_live(left.number(), page.offset as usize) {
                return;
            }
            live += to_u32(footprint(page.len.into()));
            if pools.last() != Some(&name.pool) && !pools.contains(&name.pool) {
                pools.push(name.pool);
            }
            if let Some(part) = parts.get_mut(part_of(&name.object, page.index) % N) {
                part.push(page);
            }
        };
        let read = match left.spilled() {
            None => self.mapping.read(left.number(), segment),
            Some((slot, used)) => self.spill.as_ref().map_or_else(
                || Err(std::io::ErrorKind::NotFound.into()),
                |spill| spill.read_segment(slot.key(left.header()), used, segment),
            ),
        };
        // That of a spilled segment is what its stub is for.
        let is_its_own = |segment: &SegmentBlocks| {
            left.spilled().is_none() || {
                let header = segment.first_chunk().map(SegmentHeader::from_bytes);
                header == Some(Ok(Some(*left.header())))
            }
        };
        let scanned = read.map_err(|_| Damaged).and_then(|()| {
            if !is_its_own(segment) {
                return Err(Damaged);
            }
            format::scan(segment, left.header(), found)
        });
        let Ok(extent) = scanned else {
            return Err(left);
        };
        if left.spilled().is_none() {
            // Nobody refers to it, so that what lies behind its end may go.
            let _ = self.mapping.punch(left.number(), backed(&extent));
        }
        let mut end = 0;
        let ends = parts.each_ref().map(|part| {
            end += part.len();
            end
        });
        Ok(Scanned {
            left,
            extent,
            live,
            pools,
            pages: parts.concat(),
            ends,
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
        let number = left.number();
        let names = extent.names.len() * NAME;
        let (enlisted, backed) = match left.spilled() {
            None => {
                let backed = backed(&extent);
                let enlisted = self.enlist(arena, number, backed, Temperature::Warm);
                (enlisted, backed)
            }
            Some((slot, used)) => {
                if let Some(segment) = arena.segment(number) {
                    segment.set_slot(Some(slot));
                }
                let enlisted = self.enlist_spilled(arena, number, used, extent.names.len());
                (enlisted, Stub::MEMORY)
            }
        };
        let Some(segment) = arena.segment(number).filter(|_| enlisted) else {
            return Err(left);
        };
        segment.sequence.store(left.header().sequence, Relaxed);
        segment.unused_since.store(arena.now(), Relaxed);
        segment.used.store(to_u32(extent.used), Relaxed);
        segment.names.store(to_u32(names), Relaxed);
        segment.live.store(scanned.live, Relaxed);
        segment.hold_for(to_u32(scanned.pages.len()));
        if left.spilled().is_some() {
            self.count_spilled_segment();
            self.count_spilled(scanned.live as usize, scanned.pages.len() as u64);
        } else {
            self.names.fetch_add(names as u64, Relaxed);
            self.backed.fetch_add(backed as u64, Relaxed);
            self.count_live(scanned.live as usize, false);
        }
        let adopted = Adopted {
            segment: number,
            bytes: backed as u64,
        };
        let pages = Arc::new(Pages {
            segment: number,
            names: extent.names,
            pages: scanned.pages,
        });
        let mut start = 0;
        let parts = scanned.ends.map(|end| Part {
            pages: pages.clone(),
            range: std::mem::replace(&mut start, end)..end,
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
