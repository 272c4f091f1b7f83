// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The world around the driver: a disk, a host, and a guest that uses the disk.
//!
//! A schedule says what happens when. Whatever is under way is a [`Task`] that waits until the
//! schedule picks it, so requests, I/O and work are done in any order. Wherever the driver takes a
//! lock, the schedule may let other things happen first, as other processors do; they are then done
//! before the driver goes on.

pub(crate) mod cache;
mod current;
pub(crate) mod device;
pub(crate) mod disk;
pub(crate) mod guest;
pub(crate) mod host;
pub(crate) mod order;
pub(crate) mod scene;
pub(crate) mod schedule;
pub(crate) mod swap;
pub(crate) mod task;

pub(crate) use current::{
    count_locks, disk, dropped, ended, frame_of, identity, interleave, marked_read, pause, push,
    rest, run, wait, world,
};

use crate::driver::area::Counter;
use crate::driver::engine::Mode;
use crate::driver::filter::Filter;
use crate::sys::bio::Version;
use disk::Disk;
use guest::Op;
use host::Host;
pub(crate) use scene::Fault;
pub(crate) use scene::Scene;
use schedule::Step;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use swap::Slot;
use task::Task;

/// What came about.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) deferred: Counter,
    pub(crate) drained: Counter,
    pub(crate) lost: Counter,
}

pub(crate) struct World {
    pub(crate) filter: Arc<Filter>,
    scene: Scene,
    pub(crate) fault: Option<Fault>,
    /// Counts whatever happens.
    now: Cell<u64>,
    disk: RefCell<Disk>,
    host: RefCell<Host>,
    tasks: RefCell<Vec<Task>>,
    ops: RefCell<Vec<Op>>,
    slots: RefCell<BTreeMap<u64, Slot>>,
    schedule: RefCell<std::vec::IntoIter<Step>>,
    /// A bit for each lock to come: whether something happens before it is taken.
    coins: Cell<u16>,
    /// Steps within steps.
    depth: Cell<usize>,
    locks: Cell<isize>,
    /// Answers that are being looked at.
    answering: Cell<usize>,
    is_draining: Cell<bool>,
    /// The worker sends copies.
    is_sending: Cell<bool>,
    /// The manager has its mutex.
    is_managing: Cell<bool>,
    pub(crate) has_signal: Cell<bool>,
    /// There is no memory for bios.
    pub(crate) is_short: Cell<bool>,
    waits: Cell<usize>,
    wrong: RefCell<Option<String>>,
    pub(crate) seen: Seen,
}

impl World {
    fn new(scene: Scene, schedule: Vec<Step>) -> Self {
        Self {
            filter: Filter::new(&scene),
            scene,
            fault: scene.fault,
            now: Cell::new(0),
            disk: RefCell::new(Disk::default()),
            host: RefCell::new(Host::new(scene.is_shared)),
            tasks: RefCell::new(Vec::new()),
            ops: RefCell::new(Vec::new()),
            slots: RefCell::new(BTreeMap::new()),
            schedule: RefCell::new(schedule.into_iter()),
            coins: Cell::new(0),
            depth: Cell::new(0),
            locks: Cell::new(0),
            answering: Cell::new(0),
            is_draining: Cell::new(false),
            is_sending: Cell::new(false),
            is_managing: Cell::new(false),
            has_signal: Cell::new(false),
            is_short: Cell::new(false),
            waits: Cell::new(0),
            wrong: RefCell::new(None),
            seen: Seen::default(),
        }
    }

    pub(crate) fn is_cache(&self) -> bool {
        !self.scene.is_swap
    }

    pub(crate) fn is_disk(&self) -> bool {
        self.scene.is_disk
    }

    fn waited(&self) {
        assert_eq!(self.locks.get(), 0, "waits with a lock");
        self.waits.set(self.waits.get() + 1);
        assert!(self.waits.get() < 10_000, "waits for ever");
    }

    /// Notes what is wrong, unless something was before.
    fn is_wrong(&self, what: String) {
        self.wrong.borrow_mut().get_or_insert(what);
    }

    /// A moment later than all before.
    fn tick(&self) -> u64 {
        self.now.set(self.now.get() + 1);
        self.now.get()
    }

    /// A content that was never before.
    fn version(&self) -> Version {
        self.tick()
    }

    /// The next step of the schedule, unless that is over.
    fn step(&self) -> bool {
        if self.wrong.borrow().is_some() {
            return false;
        }
        let Some(step) = self.schedule.borrow_mut().next() else {
            return false;
        };
        self.depth.set(self.depth.get() + 1);
        let coins = self.coins.replace(step.coins);
        self.act(step.act);
        self.coins.set(0);
        self.check();
        self.coins.set(coins);
        self.depth.set(self.depth.get() - 1);
        true
    }

    /// Gets on without a schedule. Says whether there was anything to get on with.
    fn progress(&self) -> bool {
        if self.filter.engine.mode.get() != Mode::Open {
            self.back(false);
            return true;
        }
        let has_tasks = !self.tasks.borrow().is_empty();
        if has_tasks {
            self.go(0, 0);
        }
        has_tasks
    }

    /// Ends whatever is under way, and looks whether all is well.
    fn finish(&self) {
        self.coins.set(0);
        self.is_short.set(false);
        self.filter.engine.is_busy.set(false);
        for _ in 0..100_000 {
            if self.wrong.borrow().is_some() {
                return;
            }
            if !self.progress() {
                break;
            }
        }
        self.check();
        if !(self.filter.gate.is_empty() && self.filter.outs.is_empty()) {
            self.is_wrong("something is under way for ever".into());
        }
        if self.ops.borrow().iter().any(|op| !op.is_over) {
            self.is_wrong("an operation has not ended".into());
        }
        if self.scene.is_swap {
            self.finish_swap();
        } else {
            self.finish_cache();
        }
    }

    /// What must hold at any time.
    fn check(&self) {
        if self.fault == Some(Fault::NothingHeld) {
            *self.filter.homing.lock() = (0, 0);
        }
        if self.fault.is_none() && self.is_cache() {
            self.check_present();
        }
    }
}
