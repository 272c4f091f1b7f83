// SPDX-License-Identifier: GPL-2.0

//! Live filters: block devices of others, mounted or swapped on, whose pages the host keeps.
//!
//! # What happens to a bio
//!
//! | filter | bio | where it goes |
//! |---|---|---|
//! | precache | read, pages present | to the host; if that does not have one, to the disk |
//! | | other read | to the disk; what it brings is put, see `blocks` |
//! | victim | read | likewise; but what either brings is noted, and put when it is evicted: see `victims` |
//! | both | write, discard, … | the pages become absent, then to the disk |
//! | shared | read | to the host; what that does not have, to the disk, and it is put |
//! | | read, in a verified share | likewise, one page at a time; what has no name at hand, to the disk: see `verity` |
//! | | write, discard, … | the share is not used any more, then to the disk: see `shared` |
//! | preswap | swap-out | to the host; if that refuses it, to the disk |
//! | | other write, discard, … | its pages are the disk's from here on; to the disk |
//! | | read | each page from where its newest copy is |
//! | any | flush, odd sizes | to the disk |
//!
//! # Areas and back ends that come and go
//!
//! One mutex, of [`Filters`], orders what happens to filters; the manager's orders what happens to
//! the device. They meet in [`Area::set_ready`], a release, which the path of each bio reads.
//!
//! | | what is done |
//! |---|---|
//! | a filter comes, no device | it is hooked in; its area is not ready, so all bios go to the disk |
//! | a filter comes, the device is there | the pools are there, its object is new: it is ready at once, and is hooked in after that |
//! | the device comes | `settle` makes the pools, brings the areas up to date, then they become ready, then bios are sent |
//! | it comes with other pages | precache: nothing is present; preswap: what was there is lost. Then as above |
//! | it does not give a share, or takes it away | the area is not ready; the host is asked again now and then |
//! | it goes | areas are not ready. Gets of blocks and swap-outs go to the disk; swap-ins of stored pages wait, and fail after `reattach_timeout` |
//! | a filter goes | what only the host has is written back; bios under way end; the hook is taken off; the object is flushed, or the use of its share ends |
//! | the disk goes | its bios fail at the disk; a worker notices and takes the filter off |
//! | nobody uses the disk any more | what is known of it is forgotten at once, and its share not used; a worker takes the filter off |
//! | the disk is another one, or has another size | what is known of it is forgotten, and its share not used; sectors beyond its old end are not the filter's |
//! | the module goes | it can't while there is a filter |
//!
//! # Locks
//!
//! In this order: the mutex of [`Filters`]; `open_mutex` of the disk, and its queue frozen (see
//! `hook`); then those of `engine`, where `Area::known` is the one that the states of pages are
//! under. `Filter::retries` and `Filter::batch` come after it. Those of `victims` come under locks of the
//! page cache, and none under them. The manager's mutex is not taken under that of
//! [`Filters`], but for [`Backend::flush`].

pub(crate) mod batch;
pub(crate) mod homing;
pub(crate) mod list;
pub(crate) mod precache;
pub(crate) mod preswap;
pub(crate) mod purpose;
pub(crate) mod route;
pub(crate) mod shared;
pub(crate) mod verity;
pub(crate) mod victims;
pub(crate) mod wanted;
pub(crate) mod writeback;

use super::{
    area::Area,
    engine::Engine,
    tuning, //
};
use crate::{
    sys::{
        bio::{
            Bio,
            BioList,
            Op, //
        },
        blockdev::{
            BlockDevice,
            Identity,
            Shadow, //
        },
        clone::CopiesStack,
        hook::{
            self,
            Gate,
            Hook,
            Registry, //
        },
        irq_lock::IrqLock,
        module::InUse,
        plug,
        work, //
    },
    uapi::Kind,
    wire::ShareId,
};
use batch::Batch;
use kernel::{
    impl_has_delayed_work,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
    workqueue::DelayedWork,
};
use purpose::Purpose;
use verity::Verity;
use victims::Victims;

static REGISTRY: Registry<Filter> = Registry::new();

/// A filter on a block device.
#[pin_data]
pub(crate) struct Filter {
    pub(crate) kind: Kind,
    /// No other filter ever has it.
    pub(super) id: u32,
    /// Major and minor number.
    pub(crate) number: (u32, u32),
    pub(super) area: Arc<Area>,
    /// Whose pages those of its area are.
    share: Option<ShareId>,
    /// The names of its pages, if the share is a verified one.
    verity: Option<Arc<Verity>>,
    pub(super) engine: Arc<Engine>,
    hook: Arc<Hook<Filter>>,
    /// First sector of the block device, and the one after the last, when the filter was attached.
    origin: u64,
    end: u64,
    /// What the disk was that the states of pages are about.
    #[pin]
    identity: IrqLock<Identity>,
    /// Writes may be under way that it has not seen: nothing is given to the host yet.
    is_settling: Atomic<bool>,
    attached: Instant<Monotonic>,
    settle: Delta,
    /// Somebody has used the device since the filter was attached.
    was_used: Atomic<bool>,
    /// How often nobody did when it was looked.
    idle_looks: Atomic<u32>,
    /// All that is under way for this filter.
    gate: Arc<Gate>,
    /// Swap-outs on their way to the host.
    outs: Arc<Gate>,
    /// Nothing more is given to the host.
    is_closing: Atomic<bool>,
    /// Pages that are being written back, first and count; count is 0 when none are.
    #[pin]
    homing: IrqLock<(u64, u32)>,
    /// Bios that go to the disk, or have to be looked at again, from process context.
    #[pin]
    retries: IrqLock<BioList>,
    #[pin]
    retry: DelayedWork<Filter, RETRY>,
    /// Where blocks are copied to on their way to the host.
    #[pin]
    copies: IrqLock<CopiesStack>,
    /// Those that wait to be sent.
    #[pin]
    batch: IrqLock<Batch>,
    #[pin]
    send: DelayedWork<Filter, BATCH>,
    /// What is read is put when it is evicted.
    victims: Option<Arc<Victims>>,
    is_eager: bool,
    // Dropped in this order.
    shadow: Shadow,
    device: Arc<BlockDevice>,
    _in_use: InUse,
}

const RETRY: u64 = 1;
const BATCH: u64 = 2;

impl_has_delayed_work! {
    impl HasDelayedWork<Self, BATCH> for Filter { self.send }
}

impl work::Queued<BATCH> for Filter {
    fn own_workqueue(&self) -> &work::WorkQueue {
        self.engine.retry_queue()
    }
}

impl kernel::workqueue::WorkItem<BATCH> for Filter {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.send_batch();
    }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, RETRY> for Filter { self.retry }
}

impl work::Queued<RETRY> for Filter {
    fn own_workqueue(&self) -> &work::WorkQueue {
        self.engine.retry_queue()
    }
}

impl kernel::workqueue::WorkItem<RETRY> for Filter {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut bios = core::mem::replace(&mut *this.retries.lock(), BioList::new());
        // What a share does not have comes back page by page.
        plug::plugged(|| {
            while let Some(bio) = bios.pop() {
                this.again(bio);
                this.gate.leave();
            }
        });
    }
}

impl hook::Filter for Filter {
    type Purpose = Purpose;

    fn submit(this: &Arc<Self>, bio: Bio) {
        let (from, to) = bio.sectors();
        if from == to {
            return this.pass(bio);
        }
        match (this.kind, bio.op()) {
            (Kind::Precache | Kind::Victim | Kind::Shared, Op::Read) => this.read_block(bio),
            (Kind::Precache | Kind::Victim | Kind::Shared, _) => this.write_block(bio),
            (Kind::Preswap, Op::Read) => this.swap_in(bio),
            (Kind::Preswap, Op::Write) if bio.is_swap_out() => this.swap_out(bio),
            (Kind::Preswap, _) => this.overwrite(bio),
        }
    }

    fn outside(bio: Bio) -> Purpose {
        Purpose::Outside(bio)
    }

    fn slot_freed(this: &Arc<Self>, page: u64) {
        if this.kind == Kind::Preswap {
            this.engine.slot_freed(&this.area, page);
        }
    }

    fn closed(this: &Arc<Self>) {
        this.was_used.store(true, Relaxed);
        if !this.device.is_in_use() {
            this.forget_disk();
        }
    }

    fn sectors(&self) -> (u64, u64) {
        (self.origin, self.end)
    }

    fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    fn registry() -> &'static Registry<Self> {
        &REGISTRY
    }
}

impl Filter {
    /// Deals with a bio that the host could not serve.
    fn again(self: &Arc<Self>, bio: Bio) {
        match (self.kind, bio.op()) {
            (Kind::Precache | Kind::Victim | Kind::Shared, _) => self.read_from_disk(bio),
            (Kind::Preswap, Op::Read) => self.swap_in(bio),
            // As it was: put back by `release_homing`, or refused by the host.
            (Kind::Preswap, _) => self.write_to_disk(bio),
        }
    }

    /// What the disk has is not known any more.
    fn forget_disk(&self) {
        if self.area.cache(|blocks| blocks.forget_all()).is_some() {
            self.area.counts.forgotten.add(1);
        }
    }

    /// Looks whether the disk is the one that is known.
    fn recognise_disk(&self) {
        let identity = self.device.identity();
        if *self.identity.lock() != identity {
            // First, so that who finds it the same finds nothing of the old one.
            self.forget_disk();
            *self.identity.lock() = identity;
        }
    }

    /// Opens the filter once all writes have ended that it has not seen. To be asked now and then.
    ///
    /// Some of device mapper's targets (crypt, thin, delay) count a write only when they pass it on.
    /// So for disks that take bios time has to pass, too.
    fn try_settle(&self) {
        let has_time = !self.hook.takes_bios() || self.attached.elapsed() >= self.settle;
        if self.is_settling.load(Relaxed) && has_time && !self.hook.has_writes() {
            self.is_settling.store(false, Relaxed);
            self.is_closing.xchg(false, Full);
        }
    }

    /// Nobody has used the device for some time, and somebody did before. To be asked now and then.
    fn is_left(&self) -> bool {
        if self.device.is_in_use() {
            self.was_used.store(true, Relaxed);
            self.idle_looks.store(0, Relaxed);
            return false;
        }
        let looks = self.idle_looks.load(Relaxed) + 1;
        self.idle_looks.store(looks, Relaxed);
        self.was_used.load(Relaxed) && looks >= tuning::IDLE_LOOKS
    }

    /// Nothing more is given to the host from here on, and what is on its way has arrived.
    fn close(&self) {
        self.is_closing.xchg(true, Full);
        crate::sys::wait_until(|| self.outs.is_empty());
    }

    /// Takes it back.
    fn reopen(&self) {
        self.is_closing.xchg(self.is_settling.load(Relaxed), Full);
    }

    /// Ends what is scheduled; nothing is under way any more.
    fn cancel_work(self: &Arc<Self>) {
        self.engine.retry_queue().cancel_sync::<_, RETRY>(self);
        self.engine.retry_queue().cancel_sync::<_, BATCH>(self);
        if let Some(verity) = &self.verity {
            verity.cancel_work();
        }
    }

    /// Makes room for copies.
    fn stock(&self) -> Result {
        for _ in 0..tuning::COPIES {
            let copies = crate::sys::clone::Copies::new(1)?;
            self.copies.lock().push(copies);
        }
        Ok(())
    }
}
