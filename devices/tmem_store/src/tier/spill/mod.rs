// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The area in use that has segments which memory has no room for.
//!
//! It is cut into slots of the size of a segment. What is in use is known in memory alone: a stub
//! ([`super::stub`]) names its slot.
//!
//! [`Area`] is the place, [`blocks`] has the memory for its bytes, [`slots`] says which slots are free.

mod blocks;
mod slots;

pub(crate) use blocks::{SegmentBlocks, Window};

use super::stub::Slot;
use super::{MAX_SEGMENTS, SEGMENT};
use crate::area::{Area, Blocks, Reading, SEGMENT_BYTES, SegmentKey};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::types::PAGE_SIZE;
use slots::Slots;
use std::io;
use std::time::{Duration, Instant};

/// How long nothing is written after a write has failed, and at most if the next ones fail, too.
const REST: Duration = Duration::from_secs(1);
const MOST_REST: Duration = Duration::from_secs(16);

/// A spill area in use.
#[derive(Debug)]
pub(crate) struct Spill {
    area: Arc<dyn Area>,
    slots: Slots,
    started: Instant,
    /// Until when nothing is written, in milliseconds after `started`.
    rests_until: AtomicU64,
    /// For how many milliseconds it rests after the next write that fails.
    next_rest: AtomicU64,
}

impl Spill {
    /// Uses an area, of which the slots in `used` hold something.
    pub(crate) fn new(area: Arc<dyn Area>, used: impl IntoIterator<Item = Slot>) -> Self {
        let slots = Slots::new(slots_of(&*area), used);
        Self {
            area,
            slots,
            started: Instant::now(),
            rests_until: AtomicU64::new(0),
            next_rest: AtomicU64::new(millis(REST)),
        }
    }

    /// What operators call it.
    pub(crate) fn name(&self) -> String {
        self.area.name()
    }

    /// Whether others have to answer before a read or write has ended.
    pub(crate) fn is_remote(&self) -> bool {
        self.area.is_remote()
    }

    /// Whether reads can be under way together.
    pub(crate) fn reads_ahead(&self) -> bool {
        self.area.reads_ahead()
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
        millis(self.started.elapsed())
    }

    /// Whether a write has failed a moment ago.
    pub(crate) fn rests(&self) -> bool {
        self.now() < self.rests_until.load(Relaxed)
    }

    /// A slot for a segment. The last free ones are for who cleans.
    ///
    /// # Errors
    /// None is free.
    pub(crate) fn take(&self, cleans: bool) -> io::Result<Slot> {
        let slot = self.slots.take(cleans);
        slot.ok_or_else(|| io::ErrorKind::StorageFull.into())
    }

    /// Writes a segment of which `used` bytes count.
    ///
    /// # Errors
    /// What the system says. Nothing is written for a second then, or for longer if the one before
    /// has failed, too; the slot is free, and the last to be used again.
    pub(crate) fn write(
        &self,
        segment: SegmentKey,
        blocks: &SegmentBlocks,
        used: usize,
    ) -> io::Result<()> {
        let bytes = blocks.get(..used.next_multiple_of(PAGE_SIZE));
        let written = self.area.write(segment, bytes.unwrap_or_default());
        match &written {
            Ok(()) => self.next_rest.store(millis(REST), Relaxed),
            Err(_) => {
                let rest = self.next_rest.load(Relaxed);
                let next = (2 * rest).min(millis(MOST_REST));
                self.next_rest.store(next, Relaxed);
                self.rests_until.store(self.now() + rest, Relaxed);
                if let Some(slot) = Slot::new(segment.slot) {
                    self.slots.give_back_bad(slot);
                }
            }
        }
        written
    }

    /// Asks for `len` bytes of a segment from `offset` on, if the area can be asked ahead.
    pub(crate) fn begin(
        &self,
        segment: SegmentKey,
        offset: usize,
        len: usize,
    ) -> Option<Box<dyn Reading>> {
        self.area.begin(segment, offset, len)
    }

    /// Reads `len` bytes of a segment from `offset` on, no more than the largest entry has, for as long
    /// as `go_on` says so.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::Interrupted`] if `go_on` stopped it.
    pub(crate) fn read<'a>(
        &self,
        segment: SegmentKey,
        offset: usize,
        len: usize,
        window: &'a mut Window,
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<&'a [u8]> {
        let blocks = Blocks::around(offset, len, self.area.align());
        let bytes = window.get_mut(..blocks.len);
        let bytes = bytes.ok_or(io::ErrorKind::InvalidInput)?;
        self.area.read(segment, blocks.start, bytes, go_on)?;
        let bytes = window.get(blocks.skipped..blocks.skipped + len);
        Ok(bytes.unwrap_or_default())
    }

    /// Reads a segment of which `used` bytes count; the others are zeros.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn read_segment(
        &self,
        segment: SegmentKey,
        used: usize,
        blocks: &mut SegmentBlocks,
    ) -> io::Result<()> {
        let end = used.next_multiple_of(PAGE_SIZE).min(SEGMENT);
        let bytes = blocks.get_mut(..end).unwrap_or_default();
        self.area.read(segment, 0, bytes, &mut || true)?;
        blocks.get_mut(used..).unwrap_or_default().fill(0);
        Ok(())
    }

    /// A segment is needed no longer.
    pub(crate) fn free(&self, segment: SegmentKey) {
        self.area.forget(segment);
        if let Some(slot) = Slot::new(segment.slot) {
            self.slots.give_back(slot);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Slots of an area, the first included, which is the area's own.
pub(crate) fn slots_of(area: &dyn Area) -> u32 {
    const { assert!(SEGMENT_BYTES == SEGMENT) };
    area.segments().saturating_add(1).min(MAX_SEGMENTS)
}
