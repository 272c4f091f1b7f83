// SPDX-License-Identifier: GPL-2.0

//! Puts of blocks, many at a time. Whoever has a block to be put copies it, and goes on. A worker
//! sends the copies when they fill a request, or after a short while.

use super::{
    purpose::Purpose,
    Filter,
    BATCH, //
};
use crate::{
    driver::tuning,
    sys::{
        bio::{
            BioList,
            Op,
            Pages, //
        },
        clone::Copies, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::msecs_to_jiffies, //
};

/// A copy of a block, and its page.
type Copy = (u64, KBox<Copies>);

/// Copies that wait to be sent.
pub(crate) struct Batch {
    waiting: KVVec<Copy>,
    /// Empty, for those that come while the others are sent.
    spare: Option<KVVec<Copy>>,
}

impl Batch {
    /// With room for all copies that there are.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            waiting: KVVec::with_capacity(tuning::COPIES, GFP_KERNEL)?,
            spare: Some(KVVec::with_capacity(tuning::COPIES, GFP_KERNEL)?),
        })
    }
}

/// Sorts copies, the last page first: it is taken last, and requests are of pages side by side. Mostly
/// they come in order. The sorts of the core crate have panics that the kernel's tools do not know.
fn sort(copies: &mut [Copy]) {
    copies.reverse();
    let is_in_order = |pair: &[Copy]| matches!(pair, [(one, _), (next, _)] if one >= next);
    if copies.windows(2).all(is_in_order) {
        return;
    }
    let mut gap = copies.len();
    let mut is_sorted = false;
    while gap > 1 || !is_sorted {
        gap = (gap * 10 / 13).max(1);
        is_sorted = true;
        for at in 0..copies.len().saturating_sub(gap) {
            let page = |at: usize| copies.get(at).map(|(page, _)| *page);
            if page(at) < page(at + gap) {
                copies.swap(at, at + gap);
                is_sorted = false;
            }
        }
    }
}

impl Filter {
    /// Has a copy put of `page`, whose put has begun. In any context.
    pub(super) fn put_later(self: &Arc<Self>, copies: KBox<Copies>, page: u64) {
        // It is under way meanwhile.
        self.gate.join();
        let count = {
            let mut batch = self.batch.lock();
            // There is room for all copies.
            let _ = batch.waiting.push_within_capacity((page, copies));
            batch.waiting.len()
        };
        let queue = self.engine.retry_queue();
        // Once for each full request; it may be on its way already.
        if count % tuning::BATCH == 0 {
            queue.schedule::<_, BATCH>(self, 0);
        } else if count == 1 {
            queue.queue::<_, BATCH>(self, msecs_to_jiffies(tuning::BATCH_MS));
        }
    }

    /// Sends the copies that wait. By the worker.
    pub(super) fn send_batch(self: &Arc<Self>) {
        let taken = {
            let mut batch = self.batch.lock();
            let spare = batch.spare.take();
            spare.map(|spare| core::mem::replace(&mut batch.waiting, spare))
        };
        let Some(mut copies) = taken else {
            // There is one worker at a time.
            return;
        };
        sort(&mut copies);
        let mut puts = BioList::new();
        while let Some((page, copies)) = copies.pop() {
            match self.put_of(copies, page) {
                Ok(put) => puts.push(put),
                Err(copies) => {
                    self.area.cache(|blocks| blocks.end_put(page, true));
                    self.copies.lock().push(copies);
                    self.area.counts.skipped.add(1);
                }
            }
            self.gate.leave();
        }
        self.batch.lock().spare = Some(copies);
        if !puts.is_empty() {
            self.engine.dispatch(puts);
        }
    }

    /// The put of a copy, unless it is in vain or there is no memory.
    fn put_of(
        self: &Arc<Self>,
        copies: KBox<Copies>,
        page: u64,
    ) -> Result<crate::sys::bio::Bio, KBox<Copies>> {
        let is_good = self.area.cache(|blocks| blocks.is_worth_putting(page)) == Some(true);
        if !(is_good && self.is_serving()) {
            return Err(copies);
        }
        let name = match &self.verity {
            None => None,
            Some(verity) => match verity.hash(page) {
                Some(hash) => Some(hash),
                // It was wanted when the page was read.
                None => return Err(copies),
            },
        };
        let one = Pages {
            index: page,
            count: 1,
        };
        let flight = self.gate.enter();
        let clones = &self.engine.shared.clones;
        clones.over(copies, Op::Write, one, |copies| {
            Purpose::Put(copies, one, name, self.clone(), flight)
        })
    }
}
