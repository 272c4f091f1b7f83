// SPDX-License-Identifier: GPL-2.0

//! Telling the device about freed pages, many at a time.
//!
//! Swap slots are freed one by one under spinlocks, so that only marks the page. A worker sends the
//! marked pages, one request at a time, when there are many or after a short while.

use super::{
    engine::Engine,
    request::Request,
    tuning, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
    },
};

impl Engine {
    /// The swap slot at `page` was freed. In any context.
    pub(crate) fn slot_freed(self: &Arc<Self>, page: u64) {
        let (before, after) = {
            let mut handles = self.handles.lock();
            let before = handles.pending();
            handles.free(page);
            (before, handles.pending())
        };
        // Scheduled when the first page comes and when there are enough, not for each.
        if after > before && (after == 1 || after % tuning::FLUSH_PAGES == 0) {
            self.schedule_flush();
        }
    }

    /// Has freed pages flushed: now when there are many, else in a while.
    pub(super) fn schedule_flush(self: &Arc<Self>) {
        let (pending, stored) = {
            let handles = self.handles.lock();
            (handles.pending(), handles.stored())
        };
        self.counters.pending_flushes.set(pending as u64);
        self.counters.stored_pages.set(stored);
        if pending >= tuning::FLUSH_PAGES {
            self.workqueue.schedule(self, 0);
        } else if pending > 0 {
            self.workqueue.schedule(self, tuning::flush_delay());
        }
    }

    /// Sends a flush of freed pages, unless one is under way.
    pub(super) fn flush(self: &Arc<Self>) {
        if !self.is_open() {
            // Opening schedules this again.
            return;
        }
        let Some(mut request) = self.flusher.lock().take() else {
            return;
        };
        let extents = self.extents.load(Relaxed);
        // The lock is taken for each extent, so that interrupts are not off for long.
        let mut pending = core::iter::from_fn(|| self.handles.lock().take_pending());
        if extents > 0 {
            request.set_extents(pending.take(extents));
        } else if let Some(extent) = pending.next() {
            request.set_extent(extent);
        }
        if request.pages_to_flush() > 0 {
            self.counters.flush_requests.add(1);
            self.send_ready(request);
        } else {
            *self.flusher.lock() = Some(request);
        }
    }

    /// A flush has ended.
    pub(super) fn flushed(self: &Arc<Self>, mut request: KBox<Request>, answered: bool) {
        let status = request.answer().status;
        if answered && !status.is_ok() {
            // The pages stay on the device until they are replaced; nothing of the guest is lost.
            self.counters.rejected.add(1);
        }
        let mut pages = 0;
        for extent in request.extents() {
            self.handles.lock().flushed(extent, answered);
            pages += u64::from(extent.count);
        }
        let deferred = self.handles.lock().take_deferred();
        if answered && status.is_ok() {
            self.counters.invalidates.add(pages);
        }
        request.clear();
        *self.flusher.lock() = Some(request);
        if !deferred.is_empty() {
            self.dispatch(deferred);
        }
        self.schedule_flush();
    }
}
