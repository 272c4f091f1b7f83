// SPDX-License-Identifier: GPL-2.0

//! What the driver knows about the blocks of a disk that the host may have copies of.
//!
//! The host may drop a copy at any time, but no copy may be read that is not what the disk has. So
//! the driver does not ask the host whether a copy is good, it knows:
//!
//! - A page is *present* when its copy is what the disk has. Only present pages are asked for.
//! - A write makes its pages absent when it is submitted, before the disk sees it. That is all it
//!   takes to make the copies unreachable; they are flushed some time later, to free the memory.
//!   A discard may have a million pages: they become absent in parts, with the lock let go in
//!   between. Tickets are bad from before the first part on, so none becomes present again.
//! - A read that goes to the disk gets a *ticket* when it is submitted, unless a write to its pages
//!   is under way. The ticket is good until the next write to the pages is submitted. What the
//!   read brought is put only with a good ticket, and the pages become present only if it is still
//!   good when the put is answered. So no content that is older than a write is present after it,
//!   in whatever order the disk, the host and the interrupts are.
//! - There is one put at a time for each page, because the device keeps no order. A second one is
//!   left out.
//! - Flushes need no such care: one that overtakes a put, or is overtaken, removes a good copy at
//!   worst, and the next read misses.
//!
//! What is known is about the disk as it was while somebody used it. When nobody does any more, or
//! when it is another one, all pages are forgotten: [`Blocks::forget_all`].
//!
//! Writes are counted in *buckets*, which several pages share. A collision makes a ticket bad that
//! could have been good.

use super::{
    bits::Bits,
    tuning, //
};
use crate::{
    sys::bio::Pages,
    wire::Extent, //
};
use kernel::prelude::*;

/// Permission to put what a read brings, as long as no write came after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// Where a read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The host has all pages.
    Host,
    /// To the disk; with a ticket, what it brings may be put.
    Disk(Option<Ticket>),
}

/// Writes to the pages of a bucket.
#[derive(Clone, Copy, Default)]
struct Bucket {
    under_way: u32,
    /// The number of the last one that was submitted.
    last: u64,
}

/// A put under way.
struct Put {
    pages: Pages,
    ticket: Ticket,
}

/// Pages that were read before. Several pages may share a bit: then one that was read once looks as
/// if it was read before, and is put too early.
struct Seen {
    bits: Bits,
    size: u64,
    count: u64,
    most: u64,
    /// There are too many: from this bit on, they are yet to be forgotten.
    forget_from: Option<u64>,
}

impl Seen {
    /// None of `pages` pages. Some time after `most` were seen, they are forgotten.
    fn new(pages: u64, most: u64) -> Result<Self> {
        let size = Self::size(pages, most);
        Ok(Self {
            bits: Bits::new(size)?,
            size,
            count: 0,
            most,
            forget_from: None,
        })
    }

    /// Bits.
    fn size(pages: u64, most: u64) -> u64 {
        pages.min(most.saturating_mul(tuning::SEEN_SPREAD)).max(1)
    }

    fn get(&self, page: u64) -> bool {
        self.bits.get(page % self.size)
    }

    fn note(&mut self, page: u64) {
        if self.bits.set(page % self.size, true) {
            self.count += 1;
        }
    }

    fn forget_some(&mut self) {
        let is_full = self.count > self.most;
        let Some(first) = self.forget_from.or(is_full.then_some(0)) else {
            return;
        };
        let mut forgotten = 0;
        self.bits
            .clear(first, tuning::FORGET_PAGES, |_| forgotten += 1);
        self.count -= forgotten;
        let next = first.saturating_add(tuning::FORGET_PAGES);
        self.forget_from = (next < self.size).then_some(next);
    }
}

/// The states of all pages.
pub(crate) struct Blocks {
    present: Bits,
    present_count: u64,
    seen: Seen,
    buckets: KVVec<Bucket>,
    /// Number of the last write to any page.
    writes: u64,
    puts: KVVec<Put>,
    /// Copies that are not needed any more; some are forgotten when there are too many.
    garbage: KVVec<Extent>,
    /// What the disk has is not known: from this page on, pages are yet to become absent.
    unknown_from: Option<u64>,
    pages: u64,
}

impl Blocks {
    /// For a disk of `pages` pages, none of them present. It is remembered of about `most_seen` pages
    /// that they were read.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pages: u64, most_seen: u64) -> Result<Self> {
        Ok(Self {
            present: Bits::new(pages)?,
            present_count: 0,
            seen: Seen::new(pages, most_seen)?,
            buckets: KVVec::from_elem(Bucket::default(), tuning::BUCKETS, GFP_KERNEL)?,
            writes: 0,
            puts: KVVec::with_capacity(tuning::COPIES, GFP_KERNEL)?,
            garbage: KVVec::with_capacity(tuning::GARBAGE, GFP_KERNEL)?,
            unknown_from: None,
            pages,
        })
    }

    /// Bytes of memory that the states of so many pages take.
    pub(crate) fn bytes(pages: u64, most_seen: u64) -> u64 {
        Bits::bytes(pages).saturating_add(Bits::bytes(Seen::size(pages, most_seen)))
    }

    /// Pages that the host should have.
    pub(crate) fn present(&self) -> u64 {
        self.present_count
    }

    /// Extents that the host is yet to be told of.
    pub(crate) fn garbage(&self) -> usize {
        self.garbage.len()
    }

    /// The buckets of some pages, each once.
    fn buckets_of(pages: Pages) -> impl Iterator<Item = usize> {
        let size = u64::from(tuning::BUCKET_PAGES);
        let first = pages.index / size;
        let last = (pages.index + u64::from(pages.count.max(1)) - 1) / size;
        (first..=last)
            .take(tuning::BUCKETS)
            .map(|bucket| (bucket % tuning::BUCKETS as u64) as usize)
    }

    fn all<'a>(&'a self, pages: Pages) -> impl Iterator<Item = &'a Bucket> + 'a {
        Self::buckets_of(pages).filter_map(|i| self.buckets.get(i))
    }

    /// Where a read of `pages` goes.
    pub(crate) fn look(&self, pages: Pages) -> Way {
        if self.unknown_from.is_some() {
            return Way::Disk(None);
        }
        if each(pages).all(|page| self.present.get(page)) {
            return Way::Host;
        }
        let written = self.all(pages).any(|bucket| bucket.under_way > 0);
        Way::Disk((!written).then_some(Ticket(self.writes)))
    }

    fn is_good(&self, pages: Pages, ticket: Ticket) -> bool {
        self.all(pages).all(|bucket| bucket.last <= ticket.0)
    }

    /// A write to `pages` is being submitted: tickets for them are bad from here on. Then, before
    /// the disk sees the write, [`Self::remove`] makes the pages absent.
    pub(crate) fn begin_write(&mut self, pages: Pages) {
        self.writes += 1;
        for i in Self::buckets_of(pages) {
            if let Some(bucket) = self.buckets.get_mut(i) {
                bucket.under_way += 1;
                bucket.last = self.writes;
            }
        }
    }

    /// The write to `pages` has ended.
    pub(crate) fn end_write(&mut self, pages: Pages) {
        for i in Self::buckets_of(pages) {
            if let Some(bucket) = self.buckets.get_mut(i) {
                bucket.under_way = bucket.under_way.saturating_sub(1);
            }
        }
    }

    /// Makes pages absent. Gives how many were not.
    pub(crate) fn remove(&mut self, pages: Pages) -> u64 {
        let Self {
            present, garbage, ..
        } = self;
        let mut removed = 0;
        present.clear(pages.index, pages.count.into(), |page| {
            removed += 1;
            discard(garbage, page);
        });
        self.present_count -= removed;
        removed
    }

    /// What the disk has is not known any more: it may have been written to by others, or be another
    /// one. Or the host has no copies any more. All tickets are bad from here on, and no page is asked for. Then
    /// [`Self::forget_some`] makes all pages absent.
    pub(crate) fn forget_all(&mut self) {
        self.writes += 1;
        for bucket in self.buckets.iter_mut() {
            bucket.last = self.writes;
        }
        self.unknown_from = Some(0);
    }

    /// Whether pages are yet to become absent.
    pub(crate) fn is_forgetting(&self) -> bool {
        self.unknown_from.is_some()
    }

    /// Makes the next pages absent after [`Self::forget_all`].
    pub(crate) fn forget_some(&mut self) {
        let Some(first) = self.unknown_from else {
            return;
        };
        let mut removed = 0;
        self.present
            .clear(first, tuning::FORGET_PAGES, |_| removed += 1);
        self.present_count -= removed;
        let next = first.saturating_add(tuning::FORGET_PAGES);
        self.unknown_from = (next < self.pages).then_some(next);
        // Of all of them; the object is flushed as a whole.
        self.garbage.clear();
    }

    /// Whether `pages`, which a read with this ticket has brought, are to be put: from here on they
    /// are under way, until [`Self::end_put`]. With `eager` also those that were not read before.
    pub(crate) fn begin_put(&mut self, pages: Pages, ticket: Ticket, eager: bool) -> bool {
        let known = each(pages).any(|page| self.seen.get(page));
        for page in each(pages) {
            self.seen.note(page);
        }
        if !(known || eager)
            || !self.is_good(pages, ticket)
            || self.puts.iter().any(|put| overlap(put.pages, pages))
            || self.puts.len() >= tuning::COPIES
        {
            return false;
        }
        // The room is there.
        self.puts
            .push_within_capacity(Put { pages, ticket })
            .is_ok()
    }

    /// Forgets which pages were read before, once these are too many: some of them each time.
    pub(crate) fn forget_seen(&mut self) {
        self.seen.forget_some();
    }

    /// The host has answered a put of `page`: it has taken it, or else has no copy of it. Says
    /// whether the copy is good.
    pub(crate) fn answer_put(&mut self, page: u64, is_taken: bool) -> bool {
        let one = Pages {
            index: page,
            count: 1,
        };
        let ticket = self
            .puts
            .iter()
            .find(|put| overlap(put.pages, one))
            .map(|put| put.ticket);
        let is_good = is_taken && ticket.is_some_and(|ticket| self.is_good(one, ticket));
        if self.present.set(page, is_good) {
            if is_good {
                self.present_count += 1;
            } else {
                self.present_count -= 1;
            }
        }
        if is_taken && !is_good {
            discard(&mut self.garbage, page);
        }
        is_good
    }

    /// A put is over. When it was not `answered`, the host may have a copy or not.
    pub(crate) fn end_put(&mut self, pages: Pages, answered: bool) {
        if let Some(at) = self.puts.iter().position(|put| put.pages == pages) {
            let _ = self.puts.remove(at);
        }
        if !answered {
            self.remove(pages);
            for page in each(pages) {
                discard(&mut self.garbage, page);
            }
        }
    }

    /// The host does not have `page` any more.
    pub(crate) fn vanish(&mut self, page: u64) {
        if self.present.set(page, false) {
            self.present_count -= 1;
        }
    }

    /// Takes copies that the host may free.
    pub(crate) fn take_garbage(&mut self) -> Option<Extent> {
        // What was put again since is kept: the flush could come after the put.
        while let Some(mut extent) = self.garbage.pop() {
            let is_put = |index, count| {
                let pages = Pages { index, count };
                self.puts.iter().any(|put| overlap(put.pages, pages))
            };
            let may_be_put = is_put(extent.index, extent.count);
            let is_free = |page| !(self.present.get(page) || may_be_put && is_put(page, 1));
            let end = extent.index + u64::from(extent.count);
            let Some(first) = (extent.index..end).find(|page| is_free(*page)) else {
                continue;
            };
            let last = (first..end).find(|page| !is_free(*page)).unwrap_or(end);
            if last < end {
                extent.index = last;
                extent.count = (end - last) as u32;
                // There is room: one was taken.
                let _ = self.garbage.push_within_capacity(extent);
            }
            return Some(Extent {
                index: first,
                count: (last - first) as u32,
            });
        }
        None
    }
}

fn each(pages: Pages) -> impl Iterator<Item = u64> {
    pages.index..pages.index + u64::from(pages.count)
}

fn overlap(a: Pages, b: Pages) -> bool {
    a.index < b.index + u64::from(b.count) && b.index < a.index + u64::from(a.count)
}

/// Notes a copy that is not needed any more. When there is no room for it, it is forgotten: the
/// host drops it when it is old.
fn discard(garbage: &mut KVVec<Extent>, page: u64) {
    if let Some(last) = garbage.last_mut() {
        if last.index + u64::from(last.count) == page
            && u64::from(last.count) < tuning::EXTENT_PAGES
        {
            last.count += 1;
            return;
        }
    }
    let _ = garbage.push_within_capacity(Extent {
        index: page,
        count: 1,
    });
}
