// SPDX-License-Identifier: GPL-2.0

//! The hashes of a disk's blocks that dm-verity checks it by: the names of its pages in a verified
//! share (section 6.10 of the specification).
//!
//! They are read from dm-verity's hash device when they are needed, by its page cache, which the
//! kernel frees when memory is short; nothing of them is kept here. Who reads a block does not wait for its
//! hash: if that is not at hand, the disk serves the read, and a worker has the hash read for the next one,
//! with as many after it as dm-verity itself reads.
//!
//! That a hash is right is not checked. A wrong one is that of no page, or of another one, which dm-verity
//! then refuses, as it refuses what a disk with a wrong hash brings.

use crate::{
    driver::tuning,
    sys::{
        bio::Pages,
        blockdev::BlockDevice,
        irq_lock::{
            new_irq_lock,
            IrqLock, //
        },
        work::{
            Queued,
            WorkQueue, //
        },
    },
    uapi::VerifiedTarget,
    wire::PageHash,
};
use kernel::{
    impl_has_delayed_work, new_delayed_work,
    prelude::*,
    sync::Arc,
    workqueue::{
        DelayedWork,
        WorkItem, //
    },
};

/// Hashes in a block of them.
const HASHES: u64 = (kernel::page::PAGE_SIZE / PageHash::SIZE) as u64;

/// See the module.
#[pin_data]
pub(crate) struct Verity {
    device: Arc<BlockDevice>,
    /// Where the hash of the first block is, in bytes.
    start: u64,
    /// Blocks of which there are hashes.
    blocks: u64,
    /// Blocks of hashes that are to be read.
    #[pin]
    wanted: IrqLock<KVec<u64>>,
    /// Its own: it waits for a disk, and nobody waits for it.
    workqueue: WorkQueue,
    #[pin]
    load: DelayedWork<Verity>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Verity { self.load }
}

impl Queued for Verity {
    fn own_workqueue(&self) -> &WorkQueue {
        &self.workqueue
    }
}

impl WorkItem for Verity {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        while let Some(first) = this.next_wanted() {
            let last = (this.blocks - 1) / HASHES;
            for block in first..=last.min(first + tuning::HASH_AHEAD) {
                let at = this.start + block * kernel::page::PAGE_SIZE as u64;
                if this.device.load(at).is_err() {
                    // The next reader wants it again.
                    break;
                }
            }
        }
    }
}

impl Verity {
    /// What an administrator has said of the disk that is open as `data`.
    ///
    /// # Errors
    ///
    /// `ENXIO` when there is no such hash device, `EINVAL` when it does not have so many hashes,
    /// `ENOMEM`.
    pub(super) fn open(target: &VerifiedTarget, data: &Arc<BlockDevice>) -> Result<Arc<Self>> {
        let VerifiedTarget { shared, .. } = target;
        let device = if (target.hash_major, target.hash_minor) == (shared.major, shared.minor) {
            // Were it opened twice, it would always look as if somebody used it.
            data.clone()
        } else {
            let device = BlockDevice::open(target.hash_major, target.hash_minor)?;
            Arc::new(device, GFP_KERNEL)?
        };
        let (from, to) = device.sectors();
        let VerifiedTarget { hashes, blocks, .. } = *target;
        let end = blocks
            .checked_mul(PageHash::SIZE as u64)
            .and_then(|bytes| bytes.checked_add(hashes))
            .filter(|_| blocks > 0)
            .ok_or(EINVAL)?;
        let is_block = hashes % kernel::page::PAGE_SIZE as u64 == 0;
        if !is_block || end.div_ceil(512) > to - from {
            return Err(EINVAL);
        }
        let wanted = KVec::with_capacity(tuning::HASH_BLOCKS, GFP_KERNEL)?;
        let workqueue = WorkQueue::new(c"tmem-verity", true)?;
        Arc::pin_init(
            pin_init!(Self {
                device,
                start: hashes,
                blocks,
                wanted <- new_irq_lock!(wanted, "tmem::wanted"),
                workqueue,
                load <- new_delayed_work!("tmem::verity"),
            }),
            GFP_KERNEL,
        )
    }

    /// The hash of a page, if there is one and it is at hand. In process context.
    pub(crate) fn hash(&self, page: u64) -> Option<PageHash> {
        if page >= self.blocks {
            return None;
        }
        let at = self.start + page * PageHash::SIZE as u64;
        self.device.cached(at).map(PageHash)
    }

    /// The hash of a page is not at hand: it is read soon, if there is one. Gives how many of `pages`,
    /// from the first on, have theirs in the same place.
    pub(crate) fn want(self: &Arc<Self>, pages: Pages) -> u32 {
        let Some(left) = self
            .blocks
            .checked_sub(pages.index)
            .filter(|left| *left > 0)
        else {
            return pages.count;
        };
        let block = pages.index / HASHES;
        {
            let mut wanted = self.wanted.lock();
            if !wanted.contains(&block) {
                // Without room the next reader wants it again.
                let _ = wanted.push_within_capacity(block);
            }
        }
        self.workqueue.queue(self, 0);
        let here = (HASHES - pages.index % HASHES).min(left);
        // Fits: it is not more.
        here.min(pages.count.into()) as u32
    }

    fn next_wanted(&self) -> Option<u64> {
        self.wanted.lock().pop()
    }

    /// Ends what is scheduled; nobody wants anything any more.
    pub(super) fn cancel_work(self: &Arc<Self>) {
        self.workqueue.cancel_sync(self);
    }
}
