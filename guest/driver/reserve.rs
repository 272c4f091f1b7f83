// SPDX-License-Identifier: GPL-2.0

//! Memory for the return of a device that is gone.
//!
//! What is swapped out is on the device, so while it is gone nothing can be swapped, and nothing frees
//! memory. A device that is plugged in needs some all the same: the bus, the driver core and the queues
//! allocate it in a kernel thread. Without it the kernel would kill a process, though the device is about
//! to come back. So a few pages are kept while there is a swap disk, and freed when the kernel would kill.
//! As long as some are left, nobody is killed: user tasks wait for the device, until it is given up.

use super::{
    engine::Engine,
    tuning, //
};
use crate::sys::{
    irq_lock::IrqLock,
    oom::Relief,
    reclaim, //
};
use kernel::{
    page::Page,
    prelude::*,
    sync::atomic::Relaxed,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// Pages that nobody uses.
pub(super) type Reserve = IrqLock<KVec<Page>>;

/// Room for the pages, of which there are none yet.
///
/// # Errors
///
/// `ENOMEM`.
pub(super) fn empty() -> Result<KVec<Page>> {
    Ok(KVec::with_capacity(tuning::RESERVE_PAGES, GFP_KERNEL)?)
}

impl Engine {
    /// Sees to it that the reserve is full, if there is memory. Does not wait for any.
    pub(crate) fn fill_reserve(&self) {
        while self.reserve.lock().len() < tuning::RESERVE_PAGES {
            let Ok(page) = Page::alloc_page(GFP_NOWAIT) else {
                return;
            };
            // By itself: a page that has no room is freed without the lock.
            let excess = self.reserve.lock().push_within_capacity(page);
            drop(excess);
        }
    }

    /// There is no swap disk any more.
    pub(crate) fn empty_reserve(&self) {
        while self.free_reserved() {}
    }

    fn free_reserved(&self) -> bool {
        // The page is freed without the lock.
        let page = self.reserve.lock().pop();
        page.is_some()
    }
}

impl Relief for Engine {
    fn relieve(&self) -> u64 {
        // Without pages on the device, this is not for its being gone.
        if !self.is_away() || self.stored_pages() == 0 || self.reserve.lock().is_empty() {
            return 0;
        }
        if !self.is_short.xchg(true, Relaxed) {
            pr_warn!(
                "no memory is left, and nothing can be swapped out while the device is gone: plug it in again\n"
            );
        }
        if reclaim::may_wait() {
            fsleep(Delta::from_millis(tuning::RELIEF_WAIT_MS));
            // The device may be back, or somebody may have freed memory.
            return 1;
        }
        let mut freed = 0;
        while freed < tuning::RELIEF_PAGES && self.free_reserved() {
            freed += 1;
        }
        self.shared.counters.relief_pages.add(freed);
        freed
    }
}
