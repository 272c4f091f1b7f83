// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How bios end that others were cut off: as the block layer's `bio_chain` and
//! `bio_endio` have it.
//!
//! A bio that was cut is the parent of its front. It ends when it was ended
//! itself and all its fronts have; what went wrong with one of them is its
//! status from then on, unless it had another one already.

use super::Status;
use crate::world;
use crate::world::Fault;
use std::cell::Cell;
use std::rc::Rc;

pub(crate) struct Chain {
    status: Cell<Status>,
    /// Ends to come: its own, and those of its fronts.
    remaining: Cell<usize>,
    end: End,
}

/// Who hears of the end.
enum End {
    Parent(Rc<Chain>),
    /// The guest, whose operation this is.
    Guest(usize),
}

impl Chain {
    fn new(end: End) -> Rc<Self> {
        Rc::new(Self {
            status: Cell::new(Status::OK),
            remaining: Cell::new(1),
            end,
        })
    }

    /// Of a bio of the guest's.
    pub(crate) fn of_guest(op: usize) -> Rc<Self> {
        Self::new(End::Guest(op))
    }

    /// Of a front that is cut off.
    pub(super) fn front(self: &Rc<Self>) -> Rc<Self> {
        self.remaining.set(self.remaining.get() + 1);
        Self::new(End::Parent(self.clone()))
    }

    /// Whoever was handed the bio ends it.
    pub(super) fn ended_as(&self, status: Status) {
        let clears = world::world().fault == Some(Fault::SuccessClears);
        if !status.is_ok() || clears {
            self.status.set(status);
        }
        self.end();
    }

    fn end(&self) {
        self.remaining.set(self.remaining.get() - 1);
        if self.remaining.get() > 0 {
            return;
        }
        let status = self.status.get();
        match &self.end {
            End::Guest(op) => world::ended(*op, status),
            End::Parent(parent) => {
                if !status.is_ok() && parent.status.get().is_ok() {
                    parent.status.set(status);
                }
                parent.end();
            }
        }
    }
}
