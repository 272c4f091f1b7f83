// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bios: their memory has a number for each page, which says what content that is.

mod chain;
mod list;
mod status;

use crate::driver::filter::purpose::Purpose;
use crate::sys::clone::Purpose as _;
use crate::world;
use std::cell::RefCell;
use std::rc::Rc;

pub(crate) use chain::Chain;
pub(crate) use list::BioList;
pub(crate) use status::Outcome;
pub(crate) use status::Status;

pub(crate) const PAGE_SECTORS: u64 = 8;

/// What is in a page. No two writes have the same, nor do two pages.
pub(crate) type Version = u64;

pub(crate) type Memory = Rc<RefCell<Vec<Version>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Read,
    Write,
    Discard,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) index: u64,
    pub(crate) count: u32,
}

impl Pages {
    pub(crate) fn each(self) -> impl Iterator<Item = u64> {
        self.index..self.end()
    }

    pub(crate) fn end(self) -> u64 {
        self.index + u64::from(self.count)
    }

    pub(crate) fn holds(self, page: u64) -> bool {
        self.each().any(|each| each == page)
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.each().any(|page| other.holds(page))
    }
}

/// Where a bio goes when it is submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nowhere: the engine takes it.
    None,
    /// To the disk.
    Shadow,
}

pub(crate) struct Body {
    pub(crate) op: Op,
    pub(crate) is_swap_out: bool,
    pub(crate) is_plain: bool,
    pub(crate) is_kernels: bool,
    /// Sectors, the last not included.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) memory: Memory,
    /// Where in the memory the bio begins.
    pub(crate) first: usize,
    /// For which operation of the guest it is.
    pub(crate) guest: Option<usize>,
    pub(crate) target: Target,
    pub(crate) purpose: Option<Purpose>,
    /// How it ends, if it has no purpose.
    pub(crate) chain: Option<Rc<Chain>>,
}

impl Body {
    /// The same, without a purpose.
    pub(crate) fn like(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            chain: self.chain.clone(),
            purpose: None,
            ..*self
        }
    }

    /// The pages that it touches, counted from the sector `origin` on.
    pub(crate) fn touched(&self, origin: u64) -> Pages {
        let first = self.from.saturating_sub(origin) / PAGE_SECTORS;
        let end = self.to.saturating_sub(origin).div_ceil(PAGE_SECTORS);
        Pages {
            index: first,
            count: u32::try_from(end - first).unwrap(),
        }
    }
}

pub(crate) struct Bio(Option<Box<Body>>);

impl Bio {
    pub(crate) fn new(body: Body) -> Self {
        Self(Some(Box::new(body)))
    }

    pub(crate) fn body(&self) -> &Body {
        self.0.as_ref().unwrap()
    }

    fn body_mut(&mut self) -> &mut Body {
        self.0.as_mut().unwrap()
    }

    pub(crate) fn op(&self) -> Op {
        self.body().op
    }

    pub(crate) fn is_swap_out(&self) -> bool {
        self.body().is_swap_out
    }

    pub(crate) fn sectors(&self) -> (u64, u64) {
        (self.body().from, self.body().to)
    }

    pub(crate) fn pages(&self) -> Option<Pages> {
        self.pages_from(0)
    }

    pub(crate) fn pages_from(&self, origin: u64) -> Option<Pages> {
        let (from, to) = self.sectors();
        let (from, to) = (from.checked_sub(origin)?, to.checked_sub(origin)?);
        let whole = from % PAGE_SECTORS == 0 && to % PAGE_SECTORS == 0 && from < to;
        whole.then_some(Pages {
            index: from / PAGE_SECTORS,
            count: u32::try_from((to - from) / PAGE_SECTORS).ok()?,
        })
    }

    pub(crate) fn pages_touched(&self, origin: u64) -> Pages {
        self.body().touched(origin)
    }

    pub(crate) fn rebase(&mut self, origin: u64) {
        let body = self.body_mut();
        body.from = body.from.wrapping_sub(origin);
        body.to = body.to.wrapping_sub(origin);
    }

    pub(crate) fn aim(&mut self, target: Target) {
        self.body_mut().target = target;
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.body().is_plain
    }

    pub(crate) fn is_movable(&self) -> bool {
        self.is_plain()
    }

    pub(crate) fn is_kernels(&self) -> bool {
        self.body().is_kernels
    }

    /// Cuts the bio before the sector `at`: a new bio, which is its front, and itself, which is what
    /// is left.
    pub(super) fn cut(mut self, at: u64) -> (Self, Self) {
        let rest = self.body_mut();
        let mut front = rest.like();
        front.to = at;
        front.chain = rest.chain.as_ref().map(Chain::front);
        rest.first += ((at - rest.from) / PAGE_SECTORS) as usize;
        rest.from = at;
        (Self::new(front), self)
    }

    pub(crate) fn mark_read(&self, first: u32, count: u32) {
        let body = self.body();
        if let Some(op) = body.guest {
            let first = body.first + first as usize;
            world::marked_read(op, first..first + count as usize);
        }
    }

    pub(crate) fn submit(self) {
        assert_eq!(self.body().target, Target::Shadow);
        world::disk(self);
    }

    pub(crate) fn zero(&mut self, first: u32, count: u32) {
        let body = self.body();
        let first = body.first + first as usize;
        body.memory.borrow_mut()[first..first + count as usize].fill(0);
    }

    pub(crate) fn end(self, outcome: Outcome) {
        self.end_as(outcome.into());
    }

    pub(crate) fn end_as(mut self, status: Status) {
        let Some(mut body) = self.0.take() else {
            return;
        };
        match body.purpose.take() {
            Some(purpose) => purpose.ended(status),
            None => body.chain.unwrap().ended_as(status),
        }
    }
}

impl Drop for Bio {
    fn drop(&mut self) {
        if let Some(body) = &self.0 {
            world::dropped(body);
        }
    }
}
