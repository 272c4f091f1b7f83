// SPDX-License-Identifier: GPL-2.0

//! Telling the device about freed pages, many at a time.
//!
//! Swap slots are freed one by one under spinlocks, so that only marks the page. A worker sends the
//! marked pages, one request at a time, when there are many or after a short while.

use super::{
    area::{
        Area,
        PageState, //
    },
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

impl Area {
    /// Pages or extents that the device is yet to be told of.
    fn pending(&self) -> usize {
        match &*self.known.lock() {
            PageState::Swap(handles) => handles.pending(),
            PageState::Cache(blocks) => blocks.garbage(),
        }
    }

    /// Nobody needs `page` any more. Says whether a flush is to be scheduled: when the first page comes
    /// and when there are enough, not for each.
    pub(super) fn mark_freed(&self, page: u64) -> bool {
        let freed = self.swap(|handles| {
            let before = handles.pending();
            handles.free(page);
            (before, handles.pending())
        });
        freed.is_some_and(|(before, after)| {
            after > before && (after == 1 || after % tuning::FLUSH_PAGES == 0)
        })
    }

    /// Takes some of them.
    fn take_pending(&self) -> Option<crate::wire::Extent> {
        match &mut *self.known.lock() {
            PageState::Swap(handles) => handles.take_pending(),
            PageState::Cache(blocks) => blocks.take_garbage(),
        }
    }
}

impl Engine {
    /// The swap slot at `page` of an area was freed. In any context.
    pub(crate) fn slot_freed(self: &Arc<Self>, area: &Area, page: u64) {
        if area.mark_freed(page) {
            self.schedule_flush(area);
        }
    }

    /// Has freed pages flushed: now when there are many, else in a while.
    pub(crate) fn schedule_flush(self: &Arc<Self>, area: &Area) {
        let pending = area.pending();
        if area.is_disk() {
            self.shared.counters.pending_flushes.set(pending as u64);
            self.shared.counters.stored_pages.set(area.pages());
        }
        if pending >= tuning::FLUSH_PAGES {
            self.workqueue.schedule(self, 0);
        } else if pending > 0 {
            // One that waits already is not put off.
            self.workqueue.queue(self, tuning::flush_delay());
        }
    }

    /// Sends a flush of freed pages of each area, unless one is under way.
    pub(super) fn flush_all(self: &Arc<Self>) {
        if !self.is_open() {
            // Opening schedules this again.
            return;
        }
        let mut at = 0;
        while let Some(area) = self.area(at) {
            if area.is_ready() && area.pending() > 0 {
                self.flush(&area);
            }
            at += 1;
        }
    }

    /// Takes an area's request, unless it is in flight.
    fn take_flusher(&self, area: &Arc<Area>) -> Option<KBox<Request>> {
        let mut flushers = self.flushers.lock();
        let flusher = flushers.iter_mut().find(|it| Arc::ptr_eq(&it.area, area))?;
        flusher.request.take()
    }

    /// Gives it back. It goes with an area that was removed meanwhile.
    fn give_flusher(&self, area: &Arc<Area>, mut request: KBox<Request>) {
        request.clear();
        let mut flushers = self.flushers.lock();
        if let Some(flusher) = flushers.iter_mut().find(|it| Arc::ptr_eq(&it.area, area)) {
            flusher.request = Some(request);
        }
    }

    fn flush(self: &Arc<Self>, area: &Arc<Area>) {
        let Some(mut request) = self.take_flusher(area) else {
            return;
        };
        let extents = self.extents.load(Relaxed);
        // The lock is taken for each extent, so that interrupts are not off for long.
        let mut pending = core::iter::from_fn(|| area.take_pending());
        if extents > 0 {
            request.set_extents(area, pending.take(extents));
        } else if let Some(extent) = pending.next() {
            request.set_extent(area, extent);
        }
        if request.pages_to_flush() > 0 {
            self.shared.counters.flush_requests.add(1);
            self.send_ready(request);
        } else {
            self.give_flusher(area, request);
        }
    }

    /// A flush has ended.
    pub(super) fn flushed(self: &Arc<Self>, request: KBox<Request>, answered: bool) {
        let Some(area) = request.area().cloned() else {
            // There is none without.
            return;
        };
        let status = request.answer().status;
        if answered && !status.is_ok() {
            // The pages stay on the device until they are replaced; nothing of the guest is lost.
            self.shared.counters.rejected.add(1);
        }
        let mut pages = 0;
        for extent in request.extents() {
            area.swap(|handles| handles.flushed(extent, answered));
            pages += u64::from(extent.count);
        }
        let deferred = area.swap(|handles| handles.take_deferred());
        if answered && status.is_ok() {
            self.shared.counters.invalidates.add(pages);
        }
        self.give_flusher(&area, request);
        if let Some(deferred) = deferred.filter(|deferred| !deferred.is_empty()) {
            self.dispatch(deferred);
        }
        self.schedule_flush(&area);
    }
}
