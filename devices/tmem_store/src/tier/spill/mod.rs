// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A spill area: a file or a block device with segments that memory has no room for.
//!
//! It is cut into slots of the size of a segment. What is in use is known in memory alone: a stub
//! ([`super::stub`]) names its slot. Bytes are read and written past the page cache where the system
//! can do that, so that no memory of the host is used for them a second time.
//!
//! [`SpillArea`] is the file, [`blocks`] has the memory for its bytes, [`slots`] says which slots are free.

mod blocks;
mod slots;

pub(crate) use blocks::{SegmentBlocks, Window};

use super::stub::Slot;
use super::{MAX_SEGMENTS, SEGMENT};
use crate::area::SpillArea;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::types::PAGE_SIZE;
use slots::Slots;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long nothing is written after a write has failed.
const REST: Duration = Duration::from_secs(1);

/// A spill area in use.
#[derive(Debug)]
pub(crate) struct Spill {
    area: Arc<SpillArea>,
    slots: Slots,
    started: Instant,
    /// Until when nothing is written, in milliseconds after `started`.
    rests_until: AtomicU64,
}

impl Spill {
    /// Uses an area, of which the slots in `used` hold something.
    pub(crate) fn new(area: Arc<SpillArea>, used: impl IntoIterator<Item = Slot>) -> Self {
        let slots = Slots::new(slots_of(&area), used);
        Self {
            area,
            slots,
            started: Instant::now(),
            rests_until: AtomicU64::new(0),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.area.path()
    }

    /// What tells the area from others.
    pub(crate) fn identity(&self) -> u64 {
        self.area.identity()
    }

    /// Bytes of all slots, and of those that are free.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        let slots = [u64::from(self.slots.total()) - 1, self.slots.free().into()];
        slots.map(|slots| slots * SEGMENT as u64)
    }

    /// Whether a segment can be demoted to it now.
    pub(crate) fn has_room(&self) -> bool {
        self.slots.free() > Slots::RESERVE && !self.rests()
    }

    /// Whether so few slots are free that sparse ones are to be cleaned.
    pub(crate) fn is_tight(&self) -> bool {
        self.slots.free() <= self.slots.total() / 16 + Slots::RESERVE
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a write has failed a moment ago.
    pub(crate) fn rests(&self) -> bool {
        self.now() < self.rests_until.load(Relaxed)
    }

    /// Writes a segment of which `used` bytes count. The last free slots are for who cleans.
    ///
    /// # Errors
    /// No slot is free, or what the system says. Nothing is written for a second then, and the slot
    /// is the last to be used again.
    pub(crate) fn write(
        &self,
        blocks: &SegmentBlocks,
        used: usize,
        cleans: bool,
    ) -> io::Result<Slot> {
        let slot = self.slots.take(cleans);
        let slot = slot.ok_or(io::ErrorKind::StorageFull)?;
        let bytes = blocks.get(..used.next_multiple_of(PAGE_SIZE));
        let written = self.area.write(slot.start(), bytes.unwrap_or_default());
        written.map(|()| slot).inspect_err(|_| {
            let rest = u64::try_from(REST.as_millis()).unwrap_or(0);
            self.rests_until.store(self.now() + rest, Relaxed);
            self.slots.give_back_bad(slot);
        })
    }

    /// Reads `len` bytes of a slot from `offset` on, no more than the largest entry has.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn read<'a>(
        &self,
        slot: Slot,
        offset: usize,
        len: usize,
        window: &'a mut Window,
    ) -> io::Result<&'a [u8]> {
        let align = self.area.align();
        let skipped = offset % align;
        let blocks = (skipped + len).next_multiple_of(align);
        let start = slot.start() + (offset - skipped) as u64;
        let bytes = window.get_mut(..blocks);
        let bytes = bytes.ok_or(io::ErrorKind::InvalidInput)?;
        self.area.read(start, bytes)?;
        let bytes = window.get(skipped..skipped + len);
        Ok(bytes.unwrap_or_default())
    }

    /// Reads the segment in a slot, of which `used` bytes count; the others are zeros.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn read_segment(
        &self,
        slot: Slot,
        used: usize,
        blocks: &mut SegmentBlocks,
    ) -> io::Result<()> {
        let end = used.next_multiple_of(PAGE_SIZE).min(SEGMENT);
        let bytes = blocks.get_mut(..end).unwrap_or_default();
        self.area.read(slot.start(), bytes)?;
        blocks.get_mut(used..).unwrap_or_default().fill(0);
        Ok(())
    }

    /// What is in a slot is needed no longer.
    pub(crate) fn free(&self, slot: Slot) {
        self.slots.give_back(slot);
    }
}

/// Slots of an area, its own included.
pub(crate) fn slots_of(area: &SpillArea) -> u32 {
    const { assert!(SpillArea::UNIT == SEGMENT as u64) };
    let slots = area.bytes() / SEGMENT as u64;
    u32::try_from(slots).map_or(MAX_SEGMENTS, |slots| slots.min(MAX_SEGMENTS))
}
