// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The filter: `guest/driver/filter.rs` without kernel objects, around its parts as they stand.

use super::area::Area;
use super::engine::Engine;
use crate::sys::bio::Bio;
use crate::sys::bio::BioList;
use crate::sys::bio::Op;
use crate::sys::bio::PAGE_SECTORS;
use crate::sys::blockdev::Shadow;
use crate::sys::clone::Clones;
use crate::sys::clone::Copies;
use crate::sys::clone::CopiesStack;
use crate::sys::hook::Gate;
use crate::sys::hook::Hook;
use crate::sys::irq_lock::IrqLock;
use crate::sys::split::Splits;
use crate::tuning;
use crate::world;
use crate::world::Fault;
use crate::world::Scene;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::Arc;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, clippy::cast_possible_truncation, reason = "the guest's file as it stands")]
#[path = "../../../guest/driver/filter/batch.rs"]
pub(crate) mod batch;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, clippy::cast_possible_truncation, reason = "the guest's file as it stands")]
#[path = "../../../guest/driver/filter/homing.rs"]
pub(crate) mod homing;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, reason = "the guest's file as it stands")]
#[path = "../../../guest/driver/filter/writeback.rs"]
pub(crate) mod writeback;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, clippy::cast_possible_truncation, reason = "the guest's file as it stands")]
#[path = "../../../guest/driver/filter/precache.rs"]
pub(crate) mod precache;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, reason = "the guest's file as it stands")]
#[path = "../../../guest/driver/filter/preswap.rs"]
pub(crate) mod preswap;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, reason = "the guest's file as it stands")]
#[path = "../../../guest/driver/filter/purpose.rs"]
pub(crate) mod purpose;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, reason = "the guest's file as it stands")]
#[path = "../../../guest/driver/filter/route.rs"]
pub(crate) mod route;

#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, clippy::all, clippy::cast_possible_truncation, reason = "the guest's file as it stands")]
#[path = "../../../guest/driver/filter/victims.rs"]
pub(crate) mod victims;

/// Here no share is verified.
pub(crate) mod verity {
    use crate::sys::bio::Pages;
    use crate::wire::PageHash;

    pub(crate) enum Verity {}

    impl Verity {
        pub(crate) fn hash(&self, _page: u64) -> Option<PageHash> {
            match *self {}
        }

        pub(crate) fn want(&self, _pages: Pages) -> u32 {
            match *self {}
        }
    }
}

/// The first sector of the block device on its disk.
pub(crate) const ORIGIN: u64 = 5 * PAGE_SECTORS;

const RETRY: u64 = 1;
pub(crate) const BATCH: u64 = 2;

pub(crate) struct Filter {
    id: u32,
    pub(crate) number: (u32, u32),
    is_swap: bool,
    /// There is no filter: bios are the engine's.
    is_disk: bool,
    pub(crate) area: Arc<Area>,
    pub(crate) engine: Arc<Engine>,
    hook: Hook,
    origin: u64,
    /// Of the disk that the states of pages are about.
    identity: IrqLock<u64>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) outs: Arc<Gate>,
    pub(crate) is_closing: Atomic<bool>,
    pub(crate) homing: IrqLock<(u64, u32)>,
    retries: IrqLock<BioList>,
    copies: IrqLock<CopiesStack>,
    batch: IrqLock<batch::Batch>,
    pub(crate) victims: Option<Arc<victims::Victims>>,
    verity: Option<Arc<verity::Verity>>,
    is_eager: bool,
    shadow: Shadow,
}

impl Filter {
    pub(crate) fn new(scene: &Scene) -> Arc<Self> {
        let mut copies = CopiesStack::new();
        for _ in 0..tuning::COPIES {
            copies.push(Copies::new(1).unwrap());
        }
        let victims = scene
            .is_victim
            .then(|| victims::Victims::new(crate::FRAMES, false).unwrap());
        let filter = Arc::new(Self {
            id: 7,
            number: (254, 1),
            is_swap: scene.is_swap,
            is_disk: scene.is_disk,
            area: Area::new(scene, crate::PAGES),
            engine: Engine::new(),
            hook: Hook {
                clones: Clones,
                splits: Splits,
            },
            origin: ORIGIN,
            identity: IrqLock::new(0),
            gate: Gate::new(),
            outs: Gate::new(),
            is_closing: Atomic::new(false),
            homing: IrqLock::new((0, 0)),
            retries: IrqLock::new(BioList::new()),
            copies: IrqLock::new(copies),
            batch: IrqLock::new(batch::Batch::new().unwrap()),
            victims,
            verity: None,
            is_eager: scene.is_eager,
            shadow: Shadow,
        });
        if let Some(victims) = &filter.victims {
            victims.add(&filter).unwrap();
        }
        filter
    }

    /// A bio of the guest's, or the rest of one.
    pub(crate) fn submit(self: &Arc<Self>, mut bio: Bio) {
        if self.is_disk {
            bio.rebase(self.origin);
            return self.engine.submit(bio);
        }
        match (self.is_swap, bio.op()) {
            (false, Op::Read) => self.read_block(bio),
            (false, _) => self.write_block(bio),
            (true, Op::Read) => self.swap_in(bio),
            (true, Op::Write) if bio.is_swap_out() => self.swap_out(bio),
            (true, _) => self.overwrite(bio),
        }
    }

    /// Nobody uses the disk any more, or it is another one.
    pub(crate) fn forget_disk(&self) {
        if self.area.cache(|cache| cache.forget_all()).is_some() {
            self.area.counts.forgotten.add(1);
            world::push(world::task::Task::Forget);
        }
    }

    fn recognise_disk(&self) {
        if world::world().fault == Some(Fault::NeverLooks) {
            return;
        }
        let identity = world::identity();
        if *self.identity.lock() != identity {
            self.forget_disk();
            *self.identity.lock() = identity;
        }
    }

    /// Whether the disk is another one than is known.
    pub(crate) fn is_other_disk(&self) -> bool {
        *self.identity.lock() != world::identity()
    }

    /// What `later` has put off.
    pub(crate) fn run_retries(self: &Arc<Self>) {
        let mut bios = std::mem::replace(&mut *self.retries.lock(), BioList::new());
        while let Some(bio) = bios.pop() {
            self.again(bio);
            self.gate.leave();
        }
    }

    /// The worker sends what waits.
    pub(crate) fn run_batch(self: &Arc<Self>) {
        self.send_batch();
    }

    fn again(self: &Arc<Self>, bio: Bio) {
        match (self.is_swap, bio.op()) {
            (false, _) => self.read_from_disk(bio),
            (true, Op::Read) => self.swap_in(bio),
            (true, _) => self.write_to_disk(bio),
        }
    }

    fn close(&self) {
        self.is_closing.xchg(true, Full);
        if world::world().fault != Some(Fault::DrainInHaste) {
            crate::sys::wait_until(|| self.outs.is_empty());
        }
    }

    fn reopen(&self) {
        self.is_closing.xchg(false, Full);
    }

    /// Writes all pages back, as before a filter is detached. `done` is called when they are.
    ///
    /// # Errors
    ///
    /// As `bring_home`.
    pub(crate) fn drain(self: &Arc<Self>, done: impl FnOnce()) -> Result {
        self.close();
        let drained = self.bring_home();
        if drained.is_ok() {
            done();
        }
        self.reopen();
        drained
    }
}
