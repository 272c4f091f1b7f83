// SPDX-License-Identifier: GPL-2.0

//! Pages on their way back: from the host to the disk.

use crate::{
    driver::{
        area::Area,
        tuning, //
    },
    sys::{
        self,
        bio::{
            Pages,
            Status, //
        },
        clone::Copies,
        irq_lock::{
            new_irq_lock,
            IrqLock, //
        },
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full, //
        },
        Arc, //
    },
};

/// Some pages on their way.
pub(super) struct Part {
    pub(super) pages: Pages,
    /// They were read, or written, well.
    pub(super) status: Option<Status>,
    pub(super) copies: Option<KBox<Copies>>,
}

/// The pages that are on their way.
#[pin_data]
pub(crate) struct Writeback {
    area: Arc<Area>,
    #[pin]
    pub(super) parts: IrqLock<KVec<Part>>,
    under_way: Atomic<usize>,
}

impl Writeback {
    /// None yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(area: Arc<Area>) -> Result<Arc<Self>> {
        let parts = KVec::with_capacity(tuning::HOME_PARTS, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                area,
                parts <- new_irq_lock!(parts, "tmem::Writeback"),
                under_way: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Where the pages are on the host.
    pub(super) fn area(&self) -> &Arc<Area> {
        &self.area
    }

    /// A bio begins.
    pub(super) fn leaves(&self) {
        self.under_way.fetch_add(1, Full);
    }

    /// A bio has ended.
    pub(super) fn arrived(&self, copies: KBox<Copies>, at: usize, status: Status) {
        if let Some(part) = self.parts.lock().get_mut(at) {
            part.copies = Some(copies);
            part.status = Some(status);
        }
        self.under_way.fetch_sub(1, Full);
    }

    /// Waits until all bios have ended.
    pub(super) fn wait(&self) {
        sys::wait_until(|| self.under_way.load(Acquire) == 0);
    }
}
