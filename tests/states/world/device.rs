// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device that goes and comes back.

use super::task::Request;
use super::task::Task;
use super::Fault;
use super::World;
use crate::driver::engine::Mode;
use crate::sys::bio::Bio;
use crate::sys::bio::Op;
use crate::sys::bio::Outcome;

impl World {
    /// The device goes. Of what it has not answered, it has executed a page for each bit of
    /// `executed`.
    pub(super) fn away(&self, mut executed: u16) {
        // A reset waits for the answers that are being looked at.
        let is_there = self.filter.engine.mode.get() == Mode::Open;
        if !is_there || self.answering.get() > 0 || self.is_managing.replace(true) {
            return;
        }
        let mut next = || {
            let bit = executed & 1 != 0;
            executed = executed.rotate_right(1);
            bit
        };
        let (engine, area) = (&self.filter.engine, &self.filter.area);
        let mut requests = Vec::new();
        let mut flushes = Vec::new();
        let tasks = self.tasks.take();
        for task in tasks {
            match task {
                Task::Request(mut request) => {
                    let mut host = self.host.borrow_mut();
                    while next() && request.execute(&mut host, 0, self.is_cache()) {}
                    requests.push(request.bio);
                }
                Task::Flush(mut flush) => {
                    while next() && !flush.left.is_empty() {
                        let page = flush.left.pop();
                        self.host.borrow_mut().remove(page.unwrap());
                    }
                    flushes.push(flush.extents);
                }
                task => self.tasks.borrow_mut().push(task),
            }
        }
        if self.fault == Some(Fault::SilenceIsConsent) {
            let (puts, others) = requests.into_iter().partition(is_put);
            requests = others;
            Vec::into_iter(puts).for_each(|put: Bio| put.end(Outcome::Ok));
        }
        engine.detach(area, flushes, requests);
        self.is_managing.set(false);
    }

    /// Nobody waits for the device any more.
    pub(super) fn timeout(&self) {
        if self.filter.engine.mode.get() == Mode::Hold {
            let waiting = self.take_waiting(|_| true);
            self.filter.engine.shut(&self.filter.area, waiting);
        }
    }

    /// Those who swap out do not wait for the device any more.
    pub(super) fn postpone(&self) {
        if self.filter.engine.is_away.get() {
            let waiting = self.take_waiting(Bio::is_swap_out);
            self.filter
                .engine
                .postpone_swap_out(&self.filter.area, waiting);
        }
    }

    /// Takes those of the bios that wait for the device that `are`.
    fn take_waiting(&self, are: impl Fn(&Bio) -> bool) -> Vec<Bio> {
        let mut waiting = Vec::new();
        let tasks = self.tasks.take();
        for task in tasks {
            match task {
                Task::Request(Request { bio, .. }) if are(&bio) => waiting.push(bio),
                task => self.tasks.borrow_mut().push(task),
            }
        }
        waiting
    }

    /// The device comes back, with its pages or without.
    pub(super) fn back(&self, is_lost: bool) {
        let is_there = self.filter.engine.mode.get() == Mode::Open;
        if is_there && self.scene.is_shared {
            // The host gives the share again.
            self.filter.area.set_ready(true);
        }
        if is_there || self.is_managing.replace(true) {
            return;
        }
        // A swap disk whose pages are lost is not used any more.
        if is_lost && !self.is_disk() {
            self.lose_slots();
            self.host.borrow_mut().clear();
            self.filter.area.lose_all();
        }
        self.filter.engine.open(&self.filter.area);
        self.is_managing.set(false);
    }

    /// The host drops a page.
    pub(super) fn evict(&self, at: u8) {
        let mut host = self.host.borrow_mut();
        let count = host.pages().count();
        if count > 0 {
            let page = host.pages().nth(usize::from(at) % count);
            host.remove(page.unwrap());
        }
    }
}

fn is_put(bio: &Bio) -> bool {
    bio.op() == Op::Write
}
