// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver's `Handles`, and what would be wrong ways to use them.

use crate::driver::handles::Admission;
use crate::driver::handles::Handles;
use crate::sys::bio::Bio;
use crate::sys::bio::Op;
use crate::sys::bio::Pages;
use crate::world;
use crate::world::Fault;
use std::ops::Deref;
use std::ops::DerefMut;

pub(crate) struct Swap {
    handles: Handles,
    fault: Option<Fault>,
}

impl Deref for Swap {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.handles
    }
}

impl DerefMut for Swap {
    fn deref_mut(&mut self) -> &mut Handles {
        &mut self.handles
    }
}

impl Swap {
    pub(super) fn new(pages: u64, fault: Option<Fault>) -> Self {
        Self {
            handles: Handles::new(pages).unwrap(),
            fault,
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(crate) fn admit(&mut self, bio: Bio, pages: Pages, plain: bool) -> Admission {
        let is_write = bio.op() == Op::Write;
        let before = self.handles.pending();
        let admission = self.handles.admit(bio, pages, plain);
        match admission {
            Admission::Deferred if self.is(Fault::NothingDeferred) => {
                // Nothing else is deferred with this fault.
                let bio = self.handles.take_deferred().pop();
                Admission::Send(bio.unwrap())
            }
            Admission::Send(bio) if is_write && self.is(Fault::StaysPending) => {
                if self.handles.pending() < before {
                    for page in pages.each() {
                        self.handles.set_stored(page);
                        self.handles.free(page);
                    }
                }
                Admission::Send(bio)
            }
            admission => admission,
        }
    }

    pub(crate) fn abandon(&mut self, pages: Pages) {
        if !self.is(Fault::ForgetsOld) {
            self.handles.abandon(pages);
        }
    }

    /// For one who writes elsewhere, or has written the page back.
    pub(crate) fn free(&mut self, page: u64) {
        if self.is(Fault::StaysStored) && !world::world().filter.is_closing.load(()) {
            return;
        }
        self.handles.free(page);
    }

    pub(crate) fn slot_freed(&mut self, page: u64) {
        self.handles.free(page);
    }
}
