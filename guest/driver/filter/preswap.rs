// SPDX-License-Identifier: GPL-2.0

//! Filters for swap partitions: pages that are swapped out, in a persistent pool.
//!
//! For each page it is known where its newest copy is: on the host (*stored*), or on the disk. The
//! swap code writes and reads a slot under the lock of its folio, so there is one operation on a
//! slot at a time; others that use the partition have no claim to the content of slots.
//!
//! # Invariants
//!
//! - A swap-out is answered when the host has the pages, which are stored then, or when the disk
//!   has them, and they are not stored from before that write on.
//! - A stored page is read from the host only. When it is not there any more, it was written back
//!   meanwhile (then it is not stored, and the read starts again), or it is lost, and the read fails.
//!   A bio that reads several folios fails as a whole, so those of them that were read are marked
//!   before that: see [`Bio::mark_read`].
//! - While pages are written back, writes to them wait, so that the older content does not come
//!   last.

use super::{
    purpose::Purpose,
    Filter, //
};
use crate::{
    driver::{
        handles::Place,
        parts::parts, //
    },
    sys::bio::{
        Bio,
        Outcome,
        Pages, //
    },
};
use kernel::sync::Arc;

impl Filter {
    /// A page is swapped out.
    pub(super) fn swap_out(self: &Arc<Self>, bio: Bio) {
        // Entered before it is known whether the filter is closing: see `close`.
        let out = self.outs.enter();
        let pages = bio.pages_from(self.origin).filter(|_| bio.is_movable());
        let is_known =
            |pages: &Pages| self.area.swap(|handles| handles.covers(*pages)) == Some(true);
        let Some(pages) = pages.filter(|_| self.is_serving()).filter(is_known) else {
            drop(out);
            return self.overwrite(bio);
        };
        let Some((bio, _, _rest)) = self.fitting(bio, pages, pages.count) else {
            return;
        };
        let flight = self.gate.enter();
        let carrier = self.carrier(bio, |original| {
            Purpose::Out(original, self.clone(), out, flight)
        });
        if let Some(carrier) = carrier {
            self.engine.gather(carrier);
        }
    }

    /// The host has not taken all pages of a swap-out: the disk gets all. Unless it is `known` what
    /// the host has, it may have these pages, or what they were before: they are flushed.
    pub(super) fn refused(self: &Arc<Self>, original: Bio, known: bool) {
        if !known {
            let pages = original.pages_touched(self.origin);
            self.area.swap(|handles| {
                for page in pages.index..pages.index + u64::from(pages.count) {
                    handles.set_stored(page);
                }
            });
        }
        self.release(&original);
        self.later(original);
    }

    /// A write that goes to the disk.
    pub(super) fn overwrite(self: &Arc<Self>, bio: Bio) {
        self.release(&bio);
        self.write_to_disk(bio);
    }

    /// The pages of a write are the disk's from here on.
    fn release(self: &Arc<Self>, bio: &Bio) {
        let mut freed = 0;
        for part in parts(bio.pages_touched(self.origin)) {
            let of_part = self.area.swap(|handles| {
                // Under the lock: others store pages meanwhile.
                let before = handles.stored();
                for page in part.index..part.index + u64::from(part.count) {
                    handles.free(page);
                }
                before - handles.stored()
            });
            freed += of_part.unwrap_or(0);
        }
        if freed > 0 {
            self.area.counts.invalidates.add(freed);
            self.engine.schedule_flush(&self.area);
        }
    }

    /// Writes to the disk, unless pages of the bio are being written back: then after that.
    pub(super) fn write_to_disk(self: &Arc<Self>, bio: Bio) {
        let pages = bio.pages_touched(self.origin);
        let homing = self.homing.lock();
        if overlaps(pages, *homing) {
            // Under the lock, so that whoever ends it sees this.
            self.gate.join();
            self.retries.lock().push(bio);
            return;
        }
        // Counted before the lock is let go, so that writeback waits for it.
        let flight = self.gate.enter();
        drop(homing);
        self.pass_as(bio, |original| Purpose::Through(original, flight));
    }

    /// A read of slots.
    pub(super) fn swap_in(self: &Arc<Self>, bio: Bio) {
        let Some(pages) = bio.pages_from(self.origin).filter(|_| bio.is_movable()) else {
            return self.pass(bio);
        };
        let Some((count, place)) = self.area.swap(|handles| handles.alike(pages)) else {
            return self.pass(bio);
        };
        let Some((bio, Pages { count, .. }, _rest)) = self.fitting(bio, pages, count) else {
            return;
        };
        match place {
            Place::Device => (),
            Place::Nowhere => {
                self.area.counts.errors.add(count.into());
                return bio.end(Outcome::IoError);
            }
            Place::Disk => {
                self.area.counts.misses.add(count.into());
                return self.pass(bio);
            }
        }
        let flight = self.gate.enter();
        let carrier = self.carrier(bio, |original| Purpose::In(original, self.clone(), flight));
        if let Some(carrier) = carrier {
            self.engine.gather(carrier);
        }
    }

    /// From here on writes to these pages wait.
    pub(super) fn hold_homing(&self, first: u64, count: u32) {
        *self.homing.lock() = (first, count);
    }

    /// Lets the writes go on that waited.
    pub(super) fn release_homing(self: &Arc<Self>) {
        let waiting = {
            let mut homing = self.homing.lock();
            *homing = (0, 0);
            !self.retries.lock().is_empty()
        };
        if waiting {
            self.engine
                .retry_queue()
                .schedule::<_, { super::RETRY }>(self, 0);
        }
    }
}

fn overlaps(pages: Pages, (first, count): (u64, u32)) -> bool {
    pages.index < first + u64::from(count) && first < pages.index + u64::from(pages.count)
}
