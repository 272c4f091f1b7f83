// SPDX-License-Identifier: GPL-2.0

//! What the driver knows about each page of the swap disk, or of a swap partition with a filter.
//!
//! The device does not order operations on one handle between queues, and a freed swap slot may be
//! written again at once. So a page is in one of these states:
//!
//! ```text
//!            PUT accepted             slot freed             flush sent
//!   empty ----------------> stored ------------> pending ----------------> in flight
//!     ^                       ^                     |                          |
//!     |                       +---- PUT replaces ---+                          |
//!     +------------------------------ flush answered --------------------------+
//! ```
//!
//! A write to a pending page takes the page off the flush: the put replaces what is there. A write
//! to a page in flight waits until the flush is answered. When the device does not tell what became
//! of a put, its page is pending, unless it is stored: what the put was to replace may be there.
//!
//! A stored page is *lost* when the device comes back without it: reading it fails until it is
//! written or its slot is freed.

use super::{
    bits::Bits,
    tuning, //
};
use crate::sys::bio::{
    Bio,
    BioList,
    Op,
    Pages, //
};
use crate::wire::Extent;
use kernel::prelude::*;

/// What becomes of a bio.
pub(crate) enum Admission {
    /// It goes to the device.
    Send(Bio),
    /// It waits for a flush.
    Deferred,
    /// It reads pages that were never stored.
    Empty(Bio),
    /// It writes pages for which there is no room.
    Refused(Bio),
}

/// Where the newest copy of a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the device.
    Device,
    /// On the disk below the filter.
    Disk,
    /// It was on a device that came back without it.
    Nowhere,
}

/// The states of all pages.
pub(crate) struct Handles {
    stored: Bits,
    pending: Bits,
    in_flight: Bits,
    lost: Bits,
    stored_count: u64,
    lost_count: u64,
    pending_count: usize,
    /// Where the next flush starts to look for pending pages.
    cursor: u64,
    deferred: BioList,
}

impl Handles {
    /// For a disk of `pages` pages, all empty.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pages: u64) -> Result<Self> {
        Ok(Self {
            stored: Bits::new(pages)?,
            pending: Bits::new(pages)?,
            in_flight: Bits::new(pages)?,
            lost: Bits::new(pages)?,
            stored_count: 0,
            lost_count: 0,
            pending_count: 0,
            cursor: 0,
            deferred: BioList::new(),
        })
    }

    /// Bytes of memory that this takes.
    pub(crate) fn bytes(pages: u64) -> u64 {
        4 * Bits::bytes(pages)
    }

    /// Pages on the device.
    pub(crate) fn stored(&self) -> u64 {
        self.stored_count
    }

    /// Pages that the device is yet to be told to remove.
    pub(crate) fn pending(&self) -> usize {
        self.pending_count
    }

    /// Looks at a bio before it is sent. On a `plain` disk, pages that were never stored are empty;
    /// behind a filter they are not sent at all.
    pub(crate) fn admit(&mut self, bio: Bio, pages: Pages, plain: bool) -> Admission {
        let mut all = pages.index..pages.index + u64::from(pages.count);
        match bio.op() {
            Op::Read => {
                if !plain || all.any(|page| self.stored.get(page)) {
                    Admission::Send(bio)
                } else {
                    Admission::Empty(bio)
                }
            }
            Op::Write => {
                if all.clone().any(|page| self.in_flight.get(page)) {
                    // Pending pages stay so: the put could be refused later, without being sent.
                    self.deferred.push(bio);
                    return Admission::Deferred;
                }
                for page in all {
                    self.set_pending(page, false);
                }
                Admission::Send(bio)
            }
            Op::Discard | Op::Other => Admission::Send(bio),
        }
    }

    /// Whether the device has none of `pages`, nor is about to be told to remove one. A put of another
    /// page could be refused, but makes room.
    pub(crate) fn are_new(&self, pages: Pages) -> bool {
        let mut all = pages.index..pages.index + u64::from(pages.count);
        !all.any(|page| self.stored.get(page) || self.pending.get(page) || self.in_flight.get(page))
    }

    /// Whether the device should have `page`.
    pub(crate) fn is_stored(&self, page: u64) -> bool {
        self.stored.get(page)
    }

    /// Whether it can be remembered of `pages` where they are.
    pub(crate) fn covers(&self, pages: Pages) -> bool {
        let last = pages
            .index
            .checked_add(u64::from(pages.count).saturating_sub(1));
        last.is_some_and(|last| self.stored.covers(last))
    }

    /// The device has `page`, or may have it. Says whether that is remembered: it is not beyond the
    /// end.
    pub(crate) fn set_stored(&mut self, page: u64) -> bool {
        self.set_found(page);
        self.set_pending(page, false);
        if self.stored.set(page, true) {
            self.stored_count += 1;
        }
        self.stored.get(page)
    }

    fn set_found(&mut self, page: u64) {
        if self.lost.set(page, false) {
            self.lost_count -= 1;
        }
    }

    /// Pages that are lost.
    pub(crate) fn lost(&self) -> u64 {
        self.lost_count
    }

    /// The device came back without any page: those that it had are lost, and there is nothing to
    /// be removed. So it is with some pages from `first` on; gives where to go on.
    pub(crate) fn lose_some(&mut self, first: u64) -> Option<u64> {
        let Self { stored, lost, .. } = self;
        let mut count = 0;
        stored.clear(first, tuning::FORGET_PAGES, |page| {
            lost.set(page, true);
            count += 1;
        });
        self.stored_count -= count;
        self.lost_count += count;
        let mut forgotten = 0;
        self.pending
            .clear(first, tuning::FORGET_PAGES, |_| forgotten += 1);
        self.pending_count -= forgotten;
        let next = first.saturating_add(tuning::FORGET_PAGES);
        self.stored.covers(next).then_some(next)
    }

    /// The first stored page at or after `page`.
    pub(crate) fn next_stored(&self, page: u64) -> Option<u64> {
        self.stored.next(page)
    }

    /// Where the newest copy of a page of a swap partition is.
    fn place(&self, page: u64) -> Place {
        if self.stored.get(page) {
            Place::Device
        } else if self.lost.get(page) {
            Place::Nowhere
        } else {
            Place::Disk
        }
    }

    /// Where the first of `pages` is, and how many from it on are in the same place.
    pub(crate) fn alike(&self, pages: Pages) -> (u32, Place) {
        let first = self.place(pages.index);
        let count = (1..pages.count)
            .find(|i| self.place(pages.index + u64::from(*i)) != first)
            .unwrap_or(pages.count);
        (count, first)
    }

    /// The device does not have `page` any more.
    pub(crate) fn set_empty(&mut self, page: u64) {
        self.set_found(page);
        if self.stored.set(page, false) {
            self.stored_count -= 1;
        }
    }

    /// Nobody needs `page` any more. A page that the device does not have needs no flush.
    pub(crate) fn free(&mut self, page: u64) {
        self.set_found(page);
        if self.stored.get(page) {
            self.set_empty(page);
            self.set_pending(page, true);
        }
    }

    /// A write of `pages` has ended, and the device has not told what became of them: it may have some
    /// that nobody needs.
    pub(crate) fn abandon(&mut self, pages: Pages) {
        for page in pages.index..pages.index + u64::from(pages.count) {
            if !self.stored.get(page) {
                self.set_pending(page, true);
            }
        }
    }

    fn set_pending(&mut self, page: u64, value: bool) {
        if self.pending.set(page, value) {
            if value {
                self.pending_count += 1;
            } else {
                self.pending_count -= 1;
            }
        }
    }

    /// Takes a run of pending pages and puts it in flight.
    pub(crate) fn take_pending(&mut self) -> Option<Extent> {
        let first = match self.pending.next(self.cursor) {
            Some(first) => first,
            None => self.pending.next(0)?,
        };
        let mut end = first;
        while end - first < tuning::EXTENT_PAGES && self.pending.get(end) {
            self.set_pending(end, false);
            self.in_flight.set(end, true);
            end += 1;
        }
        self.cursor = end;
        Some(Extent {
            index: first,
            count: (end - first) as u32,
        })
    }

    /// A flush in flight has ended. When it was not answered its pages are pending again, until a write
    /// that waits for it replaces them.
    pub(crate) fn flushed(&mut self, extent: Extent, answered: bool) {
        for page in extent.index..extent.index + u64::from(extent.count) {
            self.in_flight.set(page, false);
            if !answered {
                self.set_pending(page, true);
            }
        }
    }

    /// Lets bios wait for a flush.
    pub(crate) fn defer(&mut self, bios: BioList) {
        self.deferred.append(bios);
    }

    /// The bios that waited for a flush; they want to be admitted anew.
    pub(crate) fn take_deferred(&mut self) -> BioList {
        core::mem::replace(&mut self.deferred, BioList::new())
    }
}
