// SPDX-License-Identifier: GPL-2.0

//! Areas: the pages of the swap disk, or of the block device that a filter is attached to.

use super::{
    blocks::{
        Blocks,
        Limits, //
    },
    counters::Counter,
    handles::Handles,
    tuning, //
};
use crate::{
    sys::{
        self,
        irq_lock::{
            new_irq_lock,
            IrqLock, //
        },
    },
    uapi::Kind,
    wire::{
        ObjectId,
        PoolKind, //
    },
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc, //
    },
};

/// The pool of the swap disk: persistent.
pub(crate) const DISK_POOL: u32 = 0;
/// The pool of filters for swap partitions: persistent.
pub(crate) const PRESWAP_POOL: u32 = 1;
/// The pool of filters for filesystems: ephemeral.
pub(crate) const PRECACHE_POOL: u32 = 2;

/// The first of the pools for shares, one for each share that a filter has. Ephemeral.
pub(crate) const SHARE_POOL: u32 = 8;
/// Shares that filters may have at a time: there is a look at all of them now and then.
pub(crate) const SHARES: usize = 8;

/// The pools that filters use but for those of shares, and what they promise.
pub(crate) const FILTER_POOLS: [(u32, PoolKind); 2] = [
    (PRESWAP_POOL, PoolKind::Persistent),
    (PRECACHE_POOL, PoolKind::Ephemeral),
];

/// What is known about the pages.
pub(crate) enum PageState {
    /// Swapped out pages.
    Swap(Handles),
    /// Copies of a disk's blocks.
    Cache(KBox<Blocks>),
}

impl PageState {
    /// Bytes of memory that it takes at most to know about `pages` pages of a filter of this kind.
    pub(crate) fn bytes(kind: Kind, pages: u64) -> u64 {
        match kind {
            Kind::Precache | Kind::Victim | Kind::Shared => {
                Blocks::most_bytes(pages, Self::limits(kind))
            }
            Kind::Preswap => Handles::bytes(pages),
        }
    }

    /// Nothing yet, about `pages` pages of a filter of this kind.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(kind: Kind, pages: u64) -> Result<Self> {
        Ok(match kind {
            Kind::Precache | Kind::Victim | Kind::Shared => {
                let blocks = Blocks::new(pages, Self::limits(kind))?;
                Self::Cache(KBox::new(blocks, GFP_KERNEL)?)
            }
            Kind::Preswap => Self::Swap(Handles::new(pages)?),
        })
    }

    fn limits(kind: Kind) -> Limits {
        let memory = sys::memory_pages();
        let present = (memory << PAGE_SHIFT) / tuning::PRESENT_PART;
        if kind == Kind::Victim {
            // What is put when it is evicted need not be known to have been read. But a ticket has to
            // last until then.
            let buckets = usize::try_from(memory / tuning::TICKET_FRAMES).unwrap_or(usize::MAX);
            return Limits {
                seen: 0,
                present,
                buckets: buckets.clamp(tuning::BUCKETS, tuning::MOST_BUCKETS),
                is_shared: false,
            };
        }
        if kind == Kind::Shared {
            // What is read once is put, and the first write makes all tickets bad.
            return Limits {
                seen: 0,
                present,
                buckets: 1,
                is_shared: true,
            };
        }
        Limits {
            seen: memory.saturating_mul(tuning::SEEN_MEMORIES),
            present,
            buckets: tuning::BUCKETS,
            is_shared: false,
        }
    }
}

/// Counts of pages; see `uapi::Filter`.
pub(crate) struct Counts {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) puts: Counter,
    pub(crate) refused: Counter,
    pub(crate) skipped: Counter,
    pub(crate) invalidates: Counter,
    pub(crate) vanished: Counter,
    pub(crate) forgotten: Counter,
    pub(crate) written_back: Counter,
    pub(crate) errors: Counter,
    pub(crate) evicted: Counter,
    pub(crate) changed: Counter,
    pub(crate) nameless: Counter,
}

/// See the module.
#[pin_data]
pub(crate) struct Area {
    pub(crate) pool: u32,
    pub(crate) object: ObjectId,
    #[pin]
    pub(super) known: IrqLock<PageState>,
    /// The device that is there has the pool, with what is known to be there.
    is_ready: Atomic<bool>,
    /// What is got is removed, where the device can do so: it comes back when it is evicted.
    pub(crate) is_exclusive: bool,
    pub(crate) counts: Counts,
}

impl Area {
    /// An area of which nothing is on the device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        pool: u32,
        object: ObjectId,
        known: PageState,
        is_exclusive: bool,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                pool,
                object,
                known <- new_irq_lock!(known, "tmem::known"),
                is_ready: Atomic::new(false),
                is_exclusive,
                counts: Counts {
                    hits: Counter::new(),
                    misses: Counter::new(),
                    puts: Counter::new(),
                    refused: Counter::new(),
                    skipped: Counter::new(),
                    invalidates: Counter::new(),
                    vanished: Counter::new(),
                    forgotten: Counter::new(),
                    written_back: Counter::new(),
                    errors: Counter::new(),
                    evicted: Counter::new(),
                    changed: Counter::new(),
                    nameless: Counter::new(),
                },
            }),
            GFP_KERNEL,
        )
    }

    /// Whether this is the module's own swap disk.
    pub(crate) fn is_disk(&self) -> bool {
        self.pool == DISK_POOL
    }

    /// Whether the pages are copies of a disk's blocks.
    pub(crate) fn is_cache(&self) -> bool {
        self.pool == PRECACHE_POOL || self.is_shared()
    }

    /// Whether the pages are those of a share.
    pub(crate) fn is_shared(&self) -> bool {
        (SHARE_POOL..SHARE_POOL + SHARES as u32).contains(&self.pool)
    }

    /// Whether pages may be sent: the device has the pool.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Acquire)
    }

    /// Sets whether pages may be sent. What is known about them was brought up to date before.
    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Release);
    }

    /// Works with the pages, if they are swapped out ones.
    pub(crate) fn swap<R>(&self, work: impl FnOnce(&mut Handles) -> R) -> Option<R> {
        match &mut *self.known.lock() {
            PageState::Swap(handles) => Some(work(handles)),
            PageState::Cache(_) => None,
        }
    }

    /// Works with the pages, if they are copies of blocks.
    pub(crate) fn cache<R>(&self, work: impl FnOnce(&mut Blocks) -> R) -> Option<R> {
        match &mut *self.known.lock() {
            PageState::Swap(_) => None,
            PageState::Cache(blocks) => Some(work(blocks)),
        }
    }

    /// Pages that the device should have.
    pub(crate) fn pages(&self) -> u64 {
        match &*self.known.lock() {
            PageState::Swap(handles) => handles.stored(),
            PageState::Cache(blocks) => blocks.present(),
        }
    }

    /// The device that is there has none of the pages. Gives how many were lost. A part at a time,
    /// with the lock let go in between: the area is not ready.
    pub(crate) fn lose_all(&self) -> u64 {
        if self.cache(Blocks::forget_all).is_some() {
            self.forget();
            return 0;
        }
        let mut next = Some(0);
        while let Some(first) = next {
            next = self.swap(|handles| handles.lose_some(first)).flatten();
        }
        self.swap(|handles| handles.lost()).unwrap_or(0)
    }

    /// Makes all pages absent after [`Blocks::forget_all`], likewise.
    pub(crate) fn forget(&self) {
        while self.cache(|blocks| {
            blocks.forget_some();
            blocks.is_forgetting()
        }) == Some(true)
        {}
    }
}
