// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Segments that an earlier store has left.

use super::super::entry::{Entry, Location};
use super::super::format::{self, Damaged, Found, footprint};
use super::super::segments::{Arena, Left};
use super::super::{PIECE, SEGMENT};
use super::head::to_u32;
use super::{Log, Temperature};
use crate::sync::atomic::Ordering::{Relaxed, Release};

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

impl Log {
    /// Takes over a segment that an earlier store has left. To be ended by
    /// [`Log::adopted`], once its pages are in an index or freed.
    ///
    /// # Errors
    /// [`Damaged`] when it is not as it was written, or cannot be read. It is free
    /// then.
    pub(crate) fn adopt(
        &self,
        arena: &Arena,
        left: Left,
        buffer: &mut [u8; SEGMENT],
    ) -> Result<Adopted, Damaged> {
        let number = left.number();
        let mut found = Vec::new();
        let read = arena.mapping.read(number, buffer);
        let scanned = read
            .map_err(|_| Damaged)
            .and_then(|()| format::scan(buffer, left.header(), |page| found.push(page)));
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
        self.backed.fetch_add(backed as u64, Relaxed);
        let mut pages = Vec::with_capacity(found.len());
        for page in found {
            let takes = footprint(page.word.len.into());
            segment.hold();
            segment.live.fetch_add(to_u32(takes), Relaxed);
            self.count_live(takes, false);
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
}
