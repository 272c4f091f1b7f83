// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Telling the host what it may free, as `guest/driver/flush.rs` does.

use super::Engine;
use crate::driver::area::Area;
use crate::driver::area::PageState;
use crate::tuning;
use crate::wire::Extent;
use crate::world;
use crate::world::task::Flush;
use crate::world::task::Task;

impl Area {
    fn pending(&self) -> usize {
        match &*self.known.lock() {
            PageState::Swap(handles) => handles.pending(),
            PageState::Cache(blocks) => blocks.garbage(),
        }
    }

    fn take_pending(&self) -> Option<Extent> {
        match &mut *self.known.lock() {
            PageState::Swap(handles) => handles.take_pending(),
            PageState::Cache(blocks) => blocks.take_garbage(),
        }
    }
}

impl Engine {
    pub(crate) fn slot_freed(&self, area: &Area, page: u64) {
        let freed = area.swap(|handles| {
            let before = handles.pending();
            handles.slot_freed(page);
            (before, handles.pending())
        });
        if freed.is_some_and(|(before, after)| {
            after > before && (after == 1 || after % tuning::FLUSH_PAGES == 0)
        }) {
            self.schedule_flush(area);
        }
    }

    pub(crate) fn schedule_flush(&self, area: &Area) {
        if area.pending() > 0 {
            world::world().schedule_flush_work();
        }
    }

    pub(crate) fn flush_all(&self, area: &Area) {
        if !self.is_open() || !area.is_ready() || !self.has_flusher.replace(false) {
            return;
        }
        let pending = std::iter::from_fn(|| area.take_pending());
        let extents: Vec<_> = pending.take(self.extents()).collect();
        if extents.is_empty() {
            self.has_flusher.set(true);
        } else if self.is_open() {
            assert!(!area.is_shared(), "flushes what others have, too");
            world::world().check_order_of_flush(&extents);
            world::push(Task::Flush(Flush::new(extents)));
        } else {
            self.flushed(area, extents, false);
        }
    }

    pub(crate) fn flushed(&self, area: &Area, extents: Vec<Extent>, answered: bool) {
        for extent in extents {
            area.swap(|handles| handles.flushed(extent, answered));
        }
        let deferred = area.swap(|handles| handles.take_deferred());
        self.has_flusher.set(true);
        if let Some(deferred) = deferred.filter(|deferred| !deferred.is_empty()) {
            self.dispatch(deferred);
        }
        self.schedule_flush(area);
    }
}
