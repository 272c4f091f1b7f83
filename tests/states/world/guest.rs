// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guest's operations on the disk.

use super::World;
use crate::driver::filter::ORIGIN;
use crate::sys::bio::Bio;
use crate::sys::bio::Body;
use crate::sys::bio::Chain;
use crate::sys::bio::Memory;
use crate::sys::bio::Op as BioOp;
use crate::sys::bio::Pages;
use crate::sys::bio::Status;
use crate::sys::bio::Target;
use crate::sys::bio::Version;
use crate::sys::bio::PAGE_SECTORS;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

#[derive(Clone)]
pub(super) struct Op {
    pub(super) op: BioOp,
    pub(super) pages: Pages,
    pub(super) memory: Memory,
    /// When it was submitted.
    pub(super) since: u64,
    pub(super) is_over: bool,
    pub(super) has_failed: bool,
    /// Pages that were marked as read.
    pub(super) read: BTreeSet<usize>,
    /// It may fail: the disk did, or nobody waited for the device.
    pub(super) may_fail: bool,
}

/// The frame of a page of the memory of an operation. There are few: they are used again.
pub(crate) fn frame(op: usize, at: usize) -> u64 {
    (op * 7 + at) as u64
}

impl World {
    /// Some pages, most often one.
    pub(super) fn pages(&self, at: u8, count: u8) -> Pages {
        let places = crate::PLACES;
        let more = u32::from(count.saturating_sub(128)) % crate::MOST_PAGES_OF_BIO;
        Pages {
            index: places[usize::from(at) % places.len()],
            count: 1 + more,
        }
    }

    /// Submits a bio.
    pub(super) fn submit(&self, op: BioOp, pages: Pages, memory: Vec<Version>, how: u8) {
        let from = ORIGIN + pages.index * PAGE_SECTORS;
        let to = from + u64::from(pages.count) * PAGE_SECTORS;
        // Some file systems have smaller blocks, or keep them encrypted; some reads are direct. The
        // swap code does none of that.
        let odd = if self.is_cache() { how % 16 } else { 0 };
        let op_count = self.ops.borrow().len();
        let memory = Rc::new(RefCell::new(memory));
        self.ops.borrow_mut().push(Op {
            op,
            pages,
            memory: memory.clone(),
            since: self.tick(),
            is_over: false,
            has_failed: false,
            read: BTreeSet::new(),
            may_fail: false,
        });
        self.filter.submit(Bio::new(Body {
            op,
            is_swap_out: !self.is_cache() && op == BioOp::Write,
            is_plain: odd != 1,
            is_kernels: odd != 2,
            from: if odd == 3 { from + 3 } else { from },
            to: if odd == 3 { to - 1 } else { to },
            memory,
            first: 0,
            guest: Some(op_count),
            target: Target::Shadow,
            purpose: None,
            chain: Some(Chain::of_guest(op_count)),
        }));
    }

    pub(super) fn read(&self, at: u8, count: u8, how: u8) {
        let pages = self.pages(at, count);
        if self.is_cache() {
            self.submit(BioOp::Read, pages, vec![0; pages.count as usize], how);
        } else {
            self.swap_in(pages, how);
        }
    }

    pub(super) fn write(&self, at: u8, count: u8, how: u8) {
        let pages = self.pages(at, count);
        if self.is_cache() {
            let content = pages.each().map(|_| self.version()).collect();
            self.submit(BioOp::Write, pages, content, how);
        } else {
            self.swap_out(pages, how);
        }
    }

    pub(super) fn discard(&self, at: u8, count: u8) {
        let pages = self.pages(at, count);
        // Or it is a write of zeros.
        let op = [BioOp::Discard, BioOp::Other][usize::from(at) % 2];
        if self.is_cache() {
            self.submit(op, pages, Vec::new(), 0);
        } else {
            self.discard_slots(op, pages);
        }
    }

    /// An operation of the guest's has ended.
    pub(super) fn ended(&self, op: usize, status: Status) {
        let op = {
            let op = &mut self.ops.borrow_mut()[op];
            assert!(!op.is_over, "an operation has ended twice");
            op.is_over = true;
            op.has_failed = !status.is_ok();
            op.clone()
        };
        if !self.is_cache() {
            return self.swap_ended(&op);
        }
        if op.has_failed && !op.may_fail {
            self.is_wrong(format!("{:?} of {:?} failed", op.op, op.pages));
        }
        if op.op == BioOp::Read && !op.has_failed {
            self.check_read(&op);
        }
    }

    /// The disk does not do what a bio asks for.
    pub(super) fn disk_failed(&self, bio: &Bio) {
        self.excuse(bio);
    }

    /// What a bio is for may fail.
    pub(crate) fn excuse(&self, bio: &Bio) {
        if let Some(op) = bio.body().guest {
            self.ops.borrow_mut()[op].may_fail = true;
        }
    }
}
