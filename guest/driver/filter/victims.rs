// SPDX-License-Identifier: GPL-2.0

//! Putting what the kernel evicts: a page that was read through a filter goes to the host when it
//! leaves the page cache, and comes back when it is read again. So no page is held twice, and
//! memory of the host is used for what did not fit into the guest's.
//!
//! When a page is read, it is noted for its frame where on the disk it is from, the ticket of the
//! read, and a fingerprint of what it brought. When a page is evicted, it is put if what is noted for
//! its frame holds: nothing was written to the block since, so the disk still has what the read
//! brought, and the page has the fingerprint of that. Nothing else is relied upon. Whatever became
//! of the frame in between, and whoever evicts what from it:
//!
//! | | why no wrong page is put |
//! |---|---|
//! | the file was written to, also through a mapping, and written back | the write to the block has made the ticket bad |
//! | the block was written to past the page cache, or discarded | likewise |
//! | the block belongs to another file by now | likewise: that was written, or else has what was read |
//! | the page was changed by who decrypts or decompresses in place | another fingerprint |
//! | the frame was used for something else | likewise; or it is the same page, bit by bit |
//! | the disk is another one | all is forgotten, with all tickets |
//! | a program knows what collides with what is on the disk | it does not: see `fingerprint` |
//!
//! What is evicted can't change any more, but the fingerprint is that of the copy all the same.
//!
//! # Contexts
//!
//! Evictions are told with interrupts off, under locks of the page cache. All that is done then is to
//! copy. What a filter needs is there until its gate is empty, and no one enters that any more once
//! the filter was removed here: see [`Victims::remove`].

use super::{
    purpose::land,
    Filter, //
};
use crate::{
    driver::{
        fingerprint::{
            Key,
            NUMBERS, //
        },
        frames::{
            Frames,
            Origin, //
        },
        ticket::Ticket,
    },
    sys::{
        bio::{
            Bio,
            Pages, //
        },
        content::{
            self,
            Content, //
        },
        eviction::Watcher,
        irq_lock::{
            new_irq_lock,
            IrqLock, //
        },
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// What was read through filters, and the filters whose pages are put when they are evicted.
#[pin_data]
pub(crate) struct Victims {
    key: Key,
    /// Only what is of the kernel's working set is put.
    is_choosy: bool,
    #[pin]
    frames: IrqLock<Frames>,
    #[pin]
    filters: IrqLock<KVec<Arc<Filter>>>,
}

impl Victims {
    /// Nothing was read yet in a guest of `frames` frames.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(frames: u64, is_choosy: bool) -> Result<Arc<Self>> {
        let key = Key::new(content::random(NUMBERS)?);
        let frames = Frames::new(frames)?;
        let filters = KVec::with_capacity(0, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                key,
                is_choosy,
                frames <- new_irq_lock!(frames, "tmem::frames"),
                filters <- new_irq_lock!(filters, "tmem::victims"),
            }),
            GFP_KERNEL,
        )
    }

    /// From here on pages of `filter` are put. One at a time may add or remove filters.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn add(&self, filter: &Arc<Filter>) -> Result {
        // By itself: within the next expression the lock would be held until its end.
        let count = self.filters.lock().len() + 1;
        let mut room = KVec::with_capacity(count, GFP_KERNEL)?;
        let mut filters = self.filters.lock();
        for other in filters.iter() {
            // There is room for all.
            let _ = room.push_within_capacity(other.clone());
        }
        let _ = room.push_within_capacity(filter.clone());
        let old = core::mem::replace(&mut *filters, room);
        drop(filters);
        drop(old);
        Ok(())
    }

    /// From here on no eviction has to do with `filter`. Waits for those that do.
    pub(crate) fn remove(&self, filter: &Arc<Filter>) {
        let mut filters = self.filters.lock();
        let at = filters.iter().position(|other| Arc::ptr_eq(other, filter));
        let removed = at.and_then(|at| filters.remove(at).ok());
        drop(filters);
        drop(removed);
        // Who had found it there has entered its gate.
        crate::sys::wait_until(|| filter.gate.is_empty());
    }

    /// Whether there are no filters.
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.lock().is_empty()
    }

    /// A read has brought `pages`, with this ticket, to memory that no program can change.
    pub(super) fn note(&self, filter: &Filter, read: &Bio, pages: Pages, ticket: Ticket) {
        read.for_each_page(|at, frame, content| {
            let origin = Origin {
                filter: filter.id,
                page: pages.index + u64::from(at),
                ticket,
                fingerprint: self.key.fingerprint(content.words()),
            };
            self.frames.lock().note(frame, origin);
        });
    }
}

impl Watcher for Victims {
    fn evicted(&self, frame: u64, content: Content<'_>, in_workingset: bool) {
        // By itself: within the next expression the lock would be held until its end.
        let origin = self.frames.lock().take(frame);
        let Some(origin) = origin else {
            return;
        };
        let found = {
            let filters = self.filters.lock();
            let filter = filters.iter().find(|filter| filter.id == origin.filter);
            // Under the lock: see `remove`.
            filter.map(|filter| (filter.clone(), filter.gate.enter()))
        };
        let Some((filter, flight)) = found else {
            return;
        };
        filter.area.counts.evicted.add(1);
        if self.is_choosy && !in_workingset {
            filter.area.counts.skipped.add(1);
        } else {
            filter.evict(&self.key, origin, content);
        }
        land(filter, flight);
    }
}

impl Filter {
    /// A page is about to be evicted that may be what was read.
    fn evict(self: &Arc<Self>, key: &Key, origin: Origin, content: Content<'_>) {
        let begun = self.is_serving().then(|| {
            self.area
                .cache(|blocks| blocks.begin_put(origin.page, origin.ticket))
        });
        if begun.flatten() != Some(true) {
            self.area.counts.skipped.add(1);
            return;
        }
        // By itself: within the next expression the lock would be held until its end.
        let copies = self.copies.lock().pop();
        let Some(mut copies) = copies else {
            self.area.cache(|blocks| blocks.end_put(origin.page, true));
            self.area.counts.skipped.add(1);
            return;
        };
        copies.fill(content);
        let fingerprint = copies
            .content()
            .map(|content| key.fingerprint(content.words()));
        if fingerprint == Some(origin.fingerprint) {
            self.put_later(copies, origin.page);
        } else {
            self.area.cache(|blocks| blocks.end_put(origin.page, true));
            self.copies.lock().push(copies);
            self.area.counts.changed.add(1);
        }
    }
}
