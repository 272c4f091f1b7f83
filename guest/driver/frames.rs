// SPDX-License-Identifier: GPL-2.0

//! What was read into which frame of memory.
//!
//! It may be out of date: a frame is freed, and used for something else, without a word to this
//! module. So it is a hint where a page comes from that is about to be evicted, and no more: the page
//! is what the disk has there if its fingerprint is that of what was read, and the ticket of that read
//! is still good. That is also why frames may share a place here, with the last one winning, and
//! why the place does not say which frame it is about.

use super::{
    fingerprint::Fingerprint,
    ticket::Ticket, //
};
use kernel::prelude::*;

/// Where a page was read from, and what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The number of the filter, which is never used for another one. 0 is none's.
    pub(crate) filter: u32,
    /// The page on its block device.
    pub(crate) page: u64,
    /// Of the read.
    pub(crate) ticket: Ticket,
    /// Of what it brought.
    pub(crate) fingerprint: Fingerprint,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// The filter's number above, the page below.
    whence: u64,
    ticket: Ticket,
    fingerprint: Fingerprint,
}

/// Bits of a page's number: 4 PiB of disk. The rest is the filter's.
const PAGE_BITS: u32 = 40;

/// Filters, and pages of a disk, that there may be.
pub(crate) const MOST_FILTERS: u64 = 1 << (u64::BITS - PAGE_BITS);
pub(crate) const MOST_PAGES: u64 = 1 << PAGE_BITS;

/// See the module.
pub(crate) struct Frames(KVVec<Slot>);

impl Frames {
    /// For a guest of `frames` frames.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(frames: u64) -> Result<Self> {
        let count = usize::try_from(frames.max(1))?;
        let flags = GFP_KERNEL | __GFP_NOWARN;
        Ok(Self(KVVec::from_elem(Slot::default(), count, flags)?))
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(frames: u64) -> u64 {
        frames.saturating_mul(size_of::<Slot>() as u64)
    }

    fn slot(&mut self, frame: u64) -> Option<&mut Slot> {
        let count = self.0.len() as u64;
        self.0.get_mut(frame.checked_rem(count)? as usize)
    }

    /// Notes what was read into a frame.
    pub(crate) fn note(&mut self, frame: u64, origin: Origin) {
        if origin.page >= MOST_PAGES || u64::from(origin.filter) >= MOST_FILTERS {
            return;
        }
        if let Some(slot) = self.slot(frame) {
            *slot = Slot {
                whence: u64::from(origin.filter) << PAGE_BITS | origin.page,
                ticket: origin.ticket,
                fingerprint: origin.fingerprint,
            };
        }
    }

    /// Takes what was read into a frame.
    pub(crate) fn take(&mut self, frame: u64) -> Option<Origin> {
        let Slot {
            whence,
            ticket,
            fingerprint,
        } = core::mem::take(self.slot(frame)?);
        let filter = (whence >> PAGE_BITS) as u32;
        (filter != 0).then_some(Origin {
            filter,
            page: whence & (MOST_PAGES - 1),
            ticket,
            fingerprint,
        })
    }
}
