// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The engine: does with bios what `guest/driver/engine.rs`, `queue.rs` and `flush.rs` do. Requests
//! are left to the world, which has the host execute and answer them in any order.

mod answer;
mod flush;

use super::area::Area;
use super::area::PageState;
use super::filter::BATCH;
use super::handles::Admission;
use crate::sys::bio::Bio;
use crate::sys::bio::BioList;
use crate::sys::bio::Op;
use crate::sys::bio::Outcome;
use crate::sys::clone::Clones;
use crate::tuning;
use crate::wire::Extent;
use crate::world;
use crate::world::task::Request;
use crate::world::task::Task;
use std::cell::Cell;
use std::sync::Arc;

/// What becomes of bios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They wait.
    Hold,
    Open,
    Fail,
}

pub(crate) struct Shared {
    pub(crate) clones: Clones,
}

pub(crate) struct WorkQueue;

impl WorkQueue {
    /// A filter's work.
    pub(crate) fn schedule<T, const ID: u64>(&self, _: &Arc<T>, _: u64) {
        world::world().schedule(if ID == BATCH {
            Task::Batch
        } else {
            Task::Retry
        });
    }

    /// Likewise.
    pub(crate) fn queue<T, const ID: u64>(&self, item: &Arc<T>, delay: u64) {
        self.schedule::<T, ID>(item, delay);
    }
}

pub(crate) struct Engine {
    pub(crate) shared: Shared,
    workqueue: WorkQueue,
    pub(crate) mode: Cell<Mode>,
    pub(crate) is_away: Cell<bool>,
    pub(crate) is_busy: Cell<bool>,
    /// The host has said that it is full.
    pub(crate) is_full: Cell<bool>,
    /// The request for flushes is not under way.
    has_flusher: Cell<bool>,
}

impl Engine {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            shared: Shared { clones: Clones },
            workqueue: WorkQueue,
            mode: Cell::new(Mode::Open),
            is_away: Cell::new(false),
            is_busy: Cell::new(false),
            is_full: Cell::new(false),
            has_flusher: Cell::new(true),
        })
    }

    pub(crate) fn most_pages(&self) -> u32 {
        crate::MOST_PAGES
    }

    pub(crate) fn is_open(&self) -> bool {
        self.mode.get() == Mode::Open
    }

    pub(crate) fn is_congested(&self) -> bool {
        self.is_away.get() || self.is_busy.get()
    }

    pub(crate) fn retry_queue(&self) -> &WorkQueue {
        &self.workqueue
    }

    /// Takes a bio of the swap disk.
    pub(crate) fn submit(&self, bio: Bio) {
        if self.is_away.get() && bio.is_swap_out() {
            return bio.end(Outcome::Again);
        }
        self.gather(bio);
    }

    /// Takes a bio, which may wait in the task's plug.
    pub(crate) fn gather(&self, bio: Bio) {
        world::push(Task::Plug(bio));
    }

    pub(crate) fn dispatch(&self, mut bios: BioList) {
        let area = world::world().filter.area.clone();
        let mut admitted = BioList::new();
        while let Some(bio) = bios.pop() {
            let pages = bio.pages().unwrap();
            let is_full = bio.op() == Op::Write && self.is_full.get();
            let admission = match &mut *area.known.lock() {
                PageState::Swap(handles) if is_full && handles.are_new(pages) => {
                    Admission::Refused(bio)
                }
                PageState::Swap(handles) => handles.admit(bio, pages, world::world().is_disk()),
                PageState::Cache(_) => Admission::Send(bio),
            };
            match admission {
                Admission::Send(bio) => admitted.push(bio),
                Admission::Deferred => world::world().seen.deferred.add(1),
                Admission::Refused(bio) => bio.end(Outcome::NoSpace),
                Admission::Empty(_) => panic!("nobody reads what was never written"),
            }
        }
        while let Some(bio) = admitted.pop() {
            self.enqueue(bio);
        }
    }

    fn enqueue(&self, bio: Bio) {
        let waits = match self.mode.get() {
            Mode::Open => true,
            Mode::Hold => self.may_wait(&bio),
            Mode::Fail => false,
        };
        if waits {
            world::push(Task::Request(Request::new(bio)));
        } else {
            self.fail(bio);
        }
    }

    pub(crate) fn may_wait(&self, bio: &Bio) -> bool {
        let purpose = self.shared.clones.purpose(bio);
        purpose.is_none_or(|purpose| purpose.may_wait())
    }

    pub(crate) fn fail(&self, bio: Bio) {
        if self.may_wait(&bio) {
            world::world().excuse(&bio);
            self.abandon(bio, Outcome::IoError);
        } else {
            self.abandon(bio, Outcome::Again);
        }
    }

    fn abandon(&self, bio: Bio, outcome: Outcome) {
        if bio.op() == Op::Write {
            let area = world::world().filter.area.clone();
            area.swap(|handles| handles.abandon(bio.pages().unwrap()));
            self.schedule_flush(&area);
        }
        bio.end(outcome);
    }

    /// The device is gone, and has not answered these.
    pub(crate) fn detach(&self, area: &Area, flushes: Vec<Vec<Extent>>, requests: Vec<Bio>) {
        area.set_ready(false);
        self.is_away.set(true);
        self.mode.set(Mode::Hold);
        let (waiting, orphans): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|bio| self.may_wait(bio));
        for bio in waiting {
            world::push(Task::Request(Request::new(bio)));
        }
        for extents in flushes {
            self.flushed(area, extents, false);
        }
        for bio in orphans {
            self.abandon(bio, Outcome::Again);
        }
    }

    /// The swap-outs that wait end; all others wait on.
    pub(crate) fn postpone_swap_out(&self, area: &Area, waiting: Vec<Bio>) {
        let deferred = area.swap(|handles| handles.take_deferred());
        let mut deferred = deferred.unwrap_or(BioList::new());
        let mut rest = BioList::new();
        while let Some(bio) = deferred.pop() {
            if bio.is_swap_out() {
                self.abandon(bio, Outcome::Again);
            } else {
                rest.push(bio);
            }
        }
        area.swap(|handles| handles.defer(rest));
        for bio in waiting {
            self.abandon(bio, Outcome::Again);
        }
    }

    /// Nobody waits for the device any more.
    pub(crate) fn shut(&self, area: &Area, waiting: Vec<Bio>) {
        self.is_away.set(false);
        self.mode.set(Mode::Fail);
        for bio in waiting {
            self.fail(bio);
        }
        let deferred = area.swap(|handles| handles.take_deferred());
        let mut deferred = deferred.unwrap_or(BioList::new());
        while let Some(bio) = deferred.pop() {
            self.fail(bio);
        }
    }

    /// The device is there, and what is known about its pages was brought up to date.
    pub(crate) fn open(&self, area: &Area) {
        area.set_ready(true);
        self.is_away.set(false);
        self.mode.set(Mode::Open);
        world::world().schedule_flush_work();
    }

    /// Extents in a flush.
    fn extents(&self) -> usize {
        tuning::EXTENTS
    }
}
