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
//!   left out, and so is one of a page that is present: so no get of a page is under way while it is put.
//! - Flushes need no such care: one that overtakes a put, or is overtaken, removes a good copy at
//!   worst, and the next read misses.
//!
//! What is known is about the disk as it was while somebody used it. When nobody does any more, or
//! when it is another one, all pages are forgotten: [`Blocks::forget_all`].
//!
//! Writes are counted in *buckets*, which several pages share. A collision makes a ticket bad that
//! could have been good.
//!
//! # Shares
//!
//! The pages of a *share* come from other guests, too, which have the same disk, and who administers
//! them has said that nobody writes to it. So each page is asked for, and a page that is present is
//! one that need not be put. The first write to any page ends this when it is submitted, before the
//! disk sees it, and so does whatever makes the disk unknown: for good. No page is asked for any more, and
//! all tickets are bad, so none is put but what was read before the disk changed. Nothing is flushed:
//! the pages are the others', too, and are what their disks have.

use super::{
    bits::{
        ones,
        Bits, //
    },
    puts::Puts,
    sparse::Sparse,
    ticket::Ticket,
    tuning, //
};
use crate::{
    sys::bio::Pages,
    wire::Extent, //
};
use kernel::prelude::*;

/// Where a read goes. With a ticket, what it brings may be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The host has all pages.
    Host(Option<Ticket>),
    /// To the disk.
    Disk(Option<Ticket>),
}

impl Way {
    /// The ticket.
    pub(crate) fn ticket(self) -> Option<Ticket> {
        match self {
            Self::Host(ticket) | Self::Disk(ticket) => ticket,
        }
    }
}

/// Why a share is not used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShareEnd {
    /// The disk was written to.
    Written,
    /// What the disk has is not known.
    Unknown,
}

/// Writes to the pages of a bucket.
#[derive(Clone, Copy, Default)]
struct Bucket {
    under_way: u32,
    /// The number of the last one that was submitted.
    last: u64,
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

    /// Notes that `pages` were read, at most 64. Says which were before: a bit for each.
    fn note(&mut self, pages: Pages) -> u64 {
        let (mut seen, mut done) = (0, 0);
        while done < pages.count.min(u64::BITS) {
            let bit = (pages.index + u64::from(done)) % self.size;
            let here = (64 - bit % 64).min(self.size - bit) as u32;
            let count = here.min(pages.count - done);
            let before = self.bits.add(bit, count);
            self.count += u64::from(count - before.count_ones());
            seen |= before << done;
            done += count;
        }
        seen
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

/// What may be known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Of about how many pages it is remembered that they were read.
    pub(crate) seen: u64,
    /// Bytes that it may take to know which pages are present.
    pub(crate) present: u64,
    /// Buckets. The more there are, the longer do tickets last.
    pub(crate) buckets: usize,
    /// Whether the pages are those of a share.
    pub(crate) is_shared: bool,
}

/// Extents that the host may be yet to be told of: none of a share.
fn garbage(is_shared: bool) -> usize {
    if is_shared {
        0
    } else {
        tuning::GARBAGE
    }
}

/// The states of all pages.
pub(crate) struct Blocks {
    present: Sparse,
    present_count: u64,
    seen: Seen,
    buckets: KVVec<Bucket>,
    /// Number of the last write to any page.
    writes: u64,
    puts: Puts,
    /// Copies that are not needed any more; some are forgotten when there are too many.
    garbage: KVVec<Extent>,
    /// What the disk has is not known: from this page on, pages are yet to become absent.
    unknown_from: Option<u64>,
    pages: u64,
    is_shared: bool,
    /// The share is not used any more.
    share_end: Option<ShareEnd>,
}

impl Blocks {
    /// For a disk of `pages` pages, none of them present.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pages: u64, limits: Limits) -> Result<Self> {
        Ok(Self {
            present: Sparse::new(pages, limits.present)?,
            present_count: 0,
            seen: Seen::new(pages, limits.seen)?,
            buckets: KVVec::from_elem(Bucket::default(), limits.buckets, GFP_KERNEL)?,
            writes: 0,
            puts: Puts::new(tuning::COPIES)?,
            garbage: KVVec::with_capacity(garbage(limits.is_shared), GFP_KERNEL)?,
            unknown_from: None,
            pages,
            is_shared: limits.is_shared,
            share_end: None,
        })
    }

    /// Bytes of memory that the states of so many pages take at most.
    pub(crate) fn most_bytes(pages: u64, limits: Limits) -> u64 {
        Self::fixed_bytes(
            Seen::size(pages, limits.seen),
            limits.buckets,
            garbage(limits.is_shared),
        )
        .saturating_add(Sparse::most_bytes(pages, limits.present))
    }

    /// Bytes of memory that they take now.
    pub(crate) fn bytes(&self) -> u64 {
        let garbage = garbage(self.is_shared);
        Self::fixed_bytes(self.seen.size, self.buckets.len(), garbage) + self.present.bytes()
    }

    fn fixed_bytes(seen: u64, buckets: usize, garbage: usize) -> u64 {
        let buckets = buckets * size_of::<Bucket>();
        let garbage = garbage * size_of::<Extent>();
        Bits::bytes(seen) + Puts::bytes(tuning::COPIES) + (buckets + garbage) as u64
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
    fn buckets_of(&self, pages: Pages) -> impl Iterator<Item = usize> {
        let count = self.buckets.len();
        let size = u64::from(tuning::BUCKET_PAGES);
        let first = pages.index / size;
        let last = (pages.index + u64::from(pages.count.max(1)) - 1) / size;
        (first..=last)
            .take(count)
            .map(move |bucket| bucket.checked_rem(count as u64).unwrap_or(0) as usize)
    }

    fn all<'a>(&'a self, pages: Pages) -> impl Iterator<Item = &'a Bucket> + 'a {
        self.buckets_of(pages).filter_map(|i| self.buckets.get(i))
    }

    /// Where a read of `pages` goes.
    pub(crate) fn look(&self, pages: Pages) -> Way {
        if self.unknown_from.is_some() || self.share_end.is_some() {
            return Way::Disk(None);
        }
        let written = self.all(pages).any(|bucket| bucket.under_way > 0);
        let ticket = (!written).then_some(Ticket(self.writes));
        let end = pages.index + u64::from(pages.count);
        if self.is_shared || self.present.next(pages.index, end, false) == end {
            Way::Host(ticket)
        } else {
            Way::Disk(ticket)
        }
    }

    /// How many of `pages`, from the first on, should go the same way: those that are present to the
    /// host. A few that are present between others that are not go to the disk with them, because
    /// a disk reads what lies side by side at once. All pages of a share go the same way.
    pub(crate) fn alike(&self, pages: Pages) -> u32 {
        if self.is_shared {
            return pages.count;
        }
        let end = pages.index + u64::from(pages.count);
        let run = |from: u64| (self.present.next(from, end, false) - from) as u32;
        let first = run(pages.index);
        if first >= tuning::WORTH_CUTTING || first == pages.count {
            return first;
        }
        let mut at = self.present.next(pages.index + u64::from(first), end, true);
        while at < end {
            let there = run(at);
            if there >= tuning::WORTH_CUTTING {
                return (at - pages.index) as u32;
            }
            at = self.present.next(at + u64::from(there), end, true);
        }
        pages.count
    }

    fn is_good(&self, pages: Pages, ticket: Ticket) -> bool {
        self.all(pages).all(|bucket| bucket.last <= ticket.0)
    }

    /// A write to `pages` is being submitted: tickets for them are bad from here on. Then, before
    /// the disk sees the write, [`Self::remove`] makes the pages absent. A share is not used any more.
    pub(crate) fn begin_write(&mut self, pages: Pages) {
        if self.end_share(ShareEnd::Written) {
            self.doubt_all();
        }
        self.writes += 1;
        for i in self.buckets_of(pages) {
            if let Some(bucket) = self.buckets.get_mut(i) {
                bucket.under_way += 1;
                bucket.last = self.writes;
            }
        }
    }

    /// The write to `pages` has ended.
    pub(crate) fn end_write(&mut self, pages: Pages) {
        for i in self.buckets_of(pages) {
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
    /// [`Self::forget_some`] makes all pages absent. A share is not used any more.
    pub(crate) fn forget_all(&mut self) {
        self.end_share(ShareEnd::Unknown);
        self.doubt_all();
    }

    /// Ends the use of a share, if these are pages of one and it was used. Says so.
    fn end_share(&mut self, why: ShareEnd) -> bool {
        let ends = self.is_shared && self.share_end.is_none();
        if ends {
            self.share_end = Some(why);
        }
        ends
    }

    /// Why the share is not used any more, if it was.
    pub(crate) fn share_end(&self) -> Option<ShareEnd> {
        self.share_end
    }

    fn doubt_all(&mut self) {
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
        let next = self.present.skip(next).filter(|next| *next < self.pages);
        self.unknown_from = next;
        // Of all of them; the object is flushed as a whole.
        self.garbage.clear();
    }

    /// Which of `pages`, at most 64, that a read with this ticket has brought, are to be put, a bit for
    /// each: from here on that is under way, until [`Self::end_put`]. With `eager` also those that were
    /// not read before.
    pub(crate) fn begin_puts(&mut self, pages: Pages, ticket: Ticket, eager: bool) -> u64 {
        let mut wanted = match eager {
            true => ones(pages.count),
            false => self.seen.note(pages),
        };
        let mut begun = 0;
        while wanted != 0 {
            let at = wanted.trailing_zeros();
            if self.begin_put(pages.index + u64::from(at), ticket) {
                begun |= 1 << at;
            }
            wanted &= wanted - 1;
        }
        begun
    }

    /// Whether `page`, which a read with this ticket has brought, is to be put, however often it was
    /// read: see [`Self::begin_puts`].
    pub(crate) fn begin_put(&mut self, page: u64, ticket: Ticket) -> bool {
        self.unknown_from.is_none()
            && self.share_end.is_none()
            && !self.present.has(page)
            && self.is_good(one(page), ticket)
            && self.puts.add(page, ticket)
    }

    /// Whether what is to be put of `page` is still what the disk has.
    pub(crate) fn is_worth_putting(&self, page: u64) -> bool {
        let ticket = self.puts.get(page);
        ticket.is_some_and(|ticket| self.is_good(one(page), ticket))
    }

    /// Forgets which pages were read before, once these are too many: some of them each time.
    pub(crate) fn forget_seen(&mut self) {
        self.seen.forget_some();
    }

    /// The host has answered a put of `page`: it has taken it, or else has no copy of it. Says
    /// whether the copy is good.
    pub(crate) fn answer_put(&mut self, page: u64, is_taken: bool) -> bool {
        let ticket = self.puts.get(page);
        let is_good = is_taken && ticket.is_some_and(|ticket| self.is_good(one(page), ticket));
        let is_noted = is_good && self.note_present(page);
        if !is_noted {
            self.vanish(page);
        }
        if is_taken && !is_noted {
            discard(&mut self.garbage, page);
        }
        is_noted
    }

    /// Makes a page present, and others absent when there is no room for it. Says whether it is.
    fn note_present(&mut self, page: u64) -> bool {
        let mut added = self.present.add(page);
        if added.is_none() {
            let Self {
                present, garbage, ..
            } = self;
            let mut dropped = 0;
            present.drop_some(|page| {
                dropped += 1;
                discard(garbage, page);
            });
            self.present_count -= dropped;
            added = self.present.add(page);
        }
        if added == Some(true) {
            self.present_count += 1;
        }
        added.is_some()
    }

    /// A put of `page` is over. When it was not `answered`, the host may have a copy or not.
    pub(crate) fn end_put(&mut self, page: u64, answered: bool) {
        self.puts.remove(page);
        if !answered {
            self.vanish(page);
            discard(&mut self.garbage, page);
        }
    }

    /// The host has delivered `page` of a share: it need not be put.
    pub(crate) fn arrive(&mut self, page: u64) {
        if self.is_shared && self.share_end.is_none() {
            self.note_present(page);
        }
    }

    /// The host does not have `page` any more.
    pub(crate) fn vanish(&mut self, page: u64) {
        if self.present.take(page) {
            self.present_count -= 1;
        }
    }

    /// Takes copies that the host may free.
    pub(crate) fn take_garbage(&mut self) -> Option<Extent> {
        // What was put again since is kept: the flush could come after the put.
        while let Some(mut extent) = self.garbage.pop() {
            let is_free = |page| !(self.present.has(page) || self.puts.get(page).is_some());
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

fn one(index: u64) -> Pages {
    Pages { index, count: 1 }
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
