// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that swaps: there is one operation on a slot at a time, and only slots that were written
//! are read.

use super::guest;
use super::Fault;
use super::World;
use crate::driver::area::PageState;
use crate::sys::bio::Op;
use crate::sys::bio::Pages;
use crate::sys::bio::Version;

/// What the swap code knows of a slot.
#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    /// What is there; none when nobody needs it.
    content: Option<Version>,
    /// What is being written.
    coming: Option<Version>,
    is_busy: bool,
    /// The host lost it.
    may_be_lost: bool,
}

impl World {
    fn slot(&self, page: u64) -> Slot {
        self.slots.borrow().get(&page).copied().unwrap_or_default()
    }

    fn change(&self, pages: Pages, mut change: impl FnMut(&mut Slot)) {
        let mut slots = self.slots.borrow_mut();
        pages
            .each()
            .for_each(|page| change(slots.entry(page).or_default()));
    }

    /// The first of `pages` that are all `right`, if there are any.
    fn first(&self, pages: Pages, right: impl Fn(Slot) -> bool) -> Option<Pages> {
        let right = pages.each().take_while(|page| right(self.slot(*page)));
        let count = u32::try_from(right.count()).unwrap();
        (count > 0).then_some(Pages { count, ..pages })
    }

    pub(super) fn swap_out(&self, pages: Pages, how: u8) {
        let Some(pages) = self.first(pages, |slot| !slot.is_busy) else {
            return;
        };
        let mut content = Vec::new();
        self.change(pages, |slot| {
            content.push(self.version());
            *slot = Slot {
                coming: content.last().copied(),
                is_busy: true,
                ..Slot::default()
            };
        });
        self.submit(Op::Write, pages, content, how);
    }

    pub(super) fn swap_in(&self, pages: Pages, how: u8) {
        let is_there = |slot: Slot| !slot.is_busy && slot.content.is_some();
        let Some(pages) = self.first(pages, is_there) else {
            return;
        };
        self.change(pages, |slot| slot.is_busy = true);
        self.submit(Op::Read, pages, vec![0; pages.count as usize], how);
    }

    pub(super) fn discard_slots(&self, op: Op, pages: Pages) {
        if self.is_disk() {
            // The swap code leaves what is freed to the driver.
            return;
        }
        let is_free = |slot: Slot| !slot.is_busy && slot.content.is_none();
        let Some(pages) = self.first(pages, is_free) else {
            return;
        };
        self.change(pages, |slot| slot.is_busy = true);
        self.submit(op, pages, Vec::new(), 0);
    }

    pub(super) fn free(&self, at: u8, count: u8) {
        let Some(pages) = self.first(self.pages(at, count), |slot| !slot.is_busy) else {
            return;
        };
        // Nobody uses them until all are.
        self.change(pages, |slot| slot.is_busy = true);
        for page in pages.each() {
            self.filter.engine.slot_freed(&self.filter.area, page);
        }
        self.change(pages, |slot| *slot = Slot::default());
    }

    pub(super) fn swap_ended(&self, op: &guest::Op) {
        let pages = op.pages;
        let has_lost = pages.each().any(|page| self.slot(page).may_be_lost);
        let is_read = op.op == Op::Read;
        if op.has_failed {
            if is_read && has_lost {
                self.seen.lost.add(1);
            } else if (is_read || !self.is_disk()) && !op.may_fail {
                // Pages that the disk does not take stay in memory.
                self.is_wrong(format!("{:?} of {pages:?} failed", op.op));
            }
        }
        if is_read {
            self.check_content(op);
        }
        self.change(pages, |slot| {
            slot.is_busy = false;
            if !is_read {
                slot.content = slot.coming.take().filter(|_| !op.has_failed);
            }
        });
    }

    /// Each page was read well, or is known not to have been. When the bio fails as a whole, those
    /// are good that were marked; the others must be lost.
    fn check_content(&self, op: &guest::Op) {
        for (at, page) in op.pages.each().enumerate() {
            let slot = self.slot(page);
            if op.has_failed && !op.read.contains(&at) {
                if !slot.may_be_lost && !op.may_fail {
                    self.is_wrong(format!("page {page} was not read, but is not lost"));
                }
                continue;
            }
            let version = op.memory.borrow()[at];
            let right = slot.content;
            if right != Some(version) {
                self.is_wrong(format!(
                    "a read brought version {version} of page {page}, not {right:?}"
                ));
            }
        }
    }

    /// The host is about to lose all pages.
    pub(super) fn lose_slots(&self) {
        let host = self.host.borrow();
        for (page, slot) in &mut *self.slots.borrow_mut() {
            let there = host.get(*page);
            if there.is_some() && (there == slot.content || there == slot.coming) {
                slot.may_be_lost = true;
            }
        }
    }

    pub(super) fn drain(&self) {
        // One who was interrupted cannot go on while this waits.
        if self.is_cache()
            || self.is_disk()
            || self.depth.get() > 1
            || self.is_draining.replace(true)
        {
            return;
        }
        let drained = self.filter.drain(|| self.drained());
        if drained.is_ok() {
            self.seen.drained.add(1);
        }
        self.has_signal.set(false);
        self.is_draining.set(false);
    }

    /// All is written back: the disk has everything, and the host may forget it.
    fn drained(&self) {
        for (page, slot) in &*self.slots.borrow() {
            let there = self.disk.borrow().read(*page);
            if slot.content.is_some_and(|content| content != there) {
                self.is_wrong(format!("page {page} is not written back"));
            }
        }
        self.host.borrow_mut().clear();
    }

    /// Everything has ended: reads all pages, writes them back, and reads them again.
    pub(super) fn finish_swap(&self) {
        self.check_held();
        for _ in 0..2 {
            for (at, _) in (0..).zip(crate::PLACES) {
                self.read(at, 0, 0);
                while self.progress() {}
            }
            self.drain();
        }
    }

    /// The host has the pages that are stored, and no others.
    fn check_held(&self) {
        if self.fault.is_some_and(|fault| fault != Fault::ForgetsOld) {
            return;
        }
        if let PageState::Swap(handles) = &*self.filter.area.known.lock() {
            let host = self.host.borrow();
            if let Some(page) = host.pages().find(|page| !handles.is_stored(*page)) {
                self.is_wrong(format!("the host keeps page {page}, which nobody needs"));
            }
            let is_gone = |page: u64| {
                // What became of a write that failed is unknown until its slot is freed.
                let is_unknown = self.is_disk() && self.slot(page).content.is_none();
                handles.is_stored(page) && host.get(page).is_none() && !is_unknown
            };
            if (0..crate::PAGES).any(is_gone) {
                self.is_wrong("the host does not have all that is stored".into());
            }
        }
    }
}
