// SPDX-License-Identifier: GPL-2.0

//! Memory for the return of a device that is gone.
//!
//! What is swapped out is on the device, so while it is gone nothing can be swapped, and nothing frees
//! memory. A device that is plugged in needs some all the same: the bus, the driver core and the queues
//! allocate it in a kernel thread. Without it the kernel would kill a process, though the device is about
//! to come back. So a few pages are kept while there is a swap disk, and freed when the kernel would kill.
//! As long as some are left, nobody is killed: user tasks wait for the device, until it is given up.

use super::tuning;
use crate::sys::irq_lock::{
    new_irq_lock,
    IrqLock, //
};
use kernel::{
    page::Page,
    prelude::*, //
};

/// See the module.
#[pin_data]
pub(crate) struct Reserve {
    #[pin]
    pages: IrqLock<KVec<Page>>,
}

impl Reserve {
    /// Room for the pages, of which there are none yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<impl PinInit<Self>> {
        let pages = KVec::with_capacity(tuning::RESERVE_PAGES, GFP_KERNEL)?;
        Ok(pin_init!(Self {
            pages <- new_irq_lock!(pages, "tmem::reserve"),
        }))
    }

    /// Sees to it that all pages are there, if there is memory. Does not wait for any.
    pub(crate) fn fill(&self) {
        while self.pages.lock().len() < tuning::RESERVE_PAGES {
            let Ok(page) = Page::alloc_page(GFP_NOWAIT) else {
                return;
            };
            // By itself: a page that has no room is freed without the lock.
            let excess = self.pages.lock().push_within_capacity(page);
            drop(excess);
        }
    }

    /// Frees a page; says whether there was one.
    pub(super) fn free_one(&self) -> bool {
        // The page is freed without the lock.
        let page = self.pages.lock().pop();
        page.is_some()
    }

    /// Frees all.
    pub(crate) fn empty(&self) {
        while self.free_one() {}
    }

    /// Whether none is there.
    pub(super) fn is_empty(&self) -> bool {
        self.pages.lock().is_empty()
    }
}
