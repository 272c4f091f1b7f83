// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The ranges of a discard or write-zeroes request.

use std::ops::Range;

use virtio_serve::Source;

use crate::extent::whole_blocks;
use crate::fault::Fault;
use crate::limits::{MAX_RANGE_SECTORS, MAX_RANGES, SECTOR};
use crate::wire::{self, RANGE};

/// Bytes `place.0..place.1` of the disk, for each range; or blocks.
#[derive(Debug)]
pub(crate) struct Ranges {
    all: [(u64, u64); MAX_RANGES as usize],
    count: usize,
}

impl Ranges {
    /// Reads what is left in `source`. All of it is judged, so that a malformed range keeps
    /// the others from having an effect. `place` finds sectors on the disk.
    pub(crate) fn read(
        source: &mut impl Source,
        may_unmap: bool,
        place: impl Fn(u64, u64) -> Result<Range<u64>, Fault>,
    ) -> Result<Self, Fault> {
        let bytes = source.remaining();
        let count = usize::try_from(bytes / RANGE as u64).map_err(|_| Fault::Ranges)?;
        if count == 0 || !bytes.is_multiple_of(RANGE as u64) {
            return Err(Fault::Ranges);
        }
        let mut ranges = Self {
            all: [(0, 0); MAX_RANGES as usize],
            count,
        };
        let all = ranges.all.get_mut(..count).ok_or(Fault::Ranges)?;
        for to in all {
            let mut bytes = [0; RANGE];
            source.read(&mut bytes).map_err(|_| Fault::HeaderUnmapped)?;
            let range = wire::Range::parse(bytes);
            if range.unknown_flags || (range.unmap && !may_unmap) {
                return Err(Fault::RangeFlags);
            }
            if range.sectors > MAX_RANGE_SECTORS {
                return Err(Fault::Ranges);
            }
            let bytes = place(range.sector, u64::from(range.sectors) * SECTOR)?;
            *to = (bytes.start, bytes.end);
        }
        Ok(ranges)
    }

    /// The bytes of each range.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = Range<u64>> {
        let all = self.all.iter().take(self.count);
        all.map(|(start, end)| *start..*end)
    }

    /// The first and the last of the blocks that lie in each range as a whole, for those that
    /// have any.
    pub(crate) fn into_whole_blocks(mut self) -> ([(u64, u64); MAX_RANGES as usize], usize) {
        let mut kept = 0;
        for nth in 0..self.count {
            let range = self.all.get(nth).copied().unwrap_or_default();
            if let Some(blocks) = whole_blocks(&(range.0..range.1))
                && let Some(to) = self.all.get_mut(kept)
            {
                *to = blocks;
                kept += 1;
            }
        }
        (self.all, kept)
    }
}
