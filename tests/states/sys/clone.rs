// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bios of the module's own.

use super::bio::Bio;
use super::bio::Body;
use super::bio::Memory;
use super::bio::Op;
use super::bio::Pages;
use super::bio::Status;
use super::bio::Target;
use super::bio::PAGE_SECTORS;
use super::blockdev::Shadow;
use super::content::Content;
use crate::driver::filter::purpose;
use crate::world;
use kernel::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;

pub(crate) trait Purpose: Sized + 'static {
    fn ended(self, status: Status);
}

pub(crate) struct Clones;

impl Clones {
    pub(crate) fn pass_on(
        &self,
        original: Bio,
        _: &Shadow,
        purpose: impl FnOnce(Bio) -> purpose::Purpose,
    ) {
        clone_of(original, Target::Shadow, purpose).submit();
    }

    pub(crate) fn carrier_of(
        &self,
        original: Bio,
        origin: u64,
        purpose: impl FnOnce(Bio) -> purpose::Purpose,
    ) -> Option<Bio> {
        let mut carrier = clone_of(original, Target::None, purpose);
        carrier.rebase(origin);
        Some(carrier)
    }

    pub(crate) fn write(
        &self,
        copies: KBox<Copies>,
        pages: Pages,
        _: &Shadow,
        origin: u64,
        purpose: impl FnOnce(KBox<Copies>) -> purpose::Purpose,
    ) -> Result<(), KBox<Copies>> {
        let mut bio = self.over(copies, Op::Write, pages, purpose)?;
        bio.rebase(0u64.wrapping_sub(origin));
        bio.aim(Target::Shadow);
        bio.submit();
        Ok(())
    }

    pub(crate) fn over(
        &self,
        copies: KBox<Copies>,
        op: Op,
        pages: Pages,
        purpose: impl FnOnce(KBox<Copies>) -> purpose::Purpose,
    ) -> Result<Bio, KBox<Copies>> {
        if world::world().is_short.get() {
            return Err(copies);
        }
        assert!(pages.count as usize <= copies.memory.borrow().len());
        let from = pages.index * PAGE_SECTORS;
        Ok(Bio::new(Body {
            op,
            is_swap_out: false,
            is_plain: true,
            is_kernels: true,
            from,
            to: from + u64::from(pages.count) * PAGE_SECTORS,
            memory: copies.memory.clone(),
            first: 0,
            guest: None,
            target: Target::None,
            purpose: Some(purpose(copies)),
            chain: None,
        }))
    }

    pub(crate) fn purpose<'a>(&self, bio: &'a Bio) -> Option<&'a purpose::Purpose> {
        bio.body().purpose.as_ref()
    }
}

fn clone_of(original: Bio, target: Target, purpose: impl FnOnce(Bio) -> purpose::Purpose) -> Bio {
    let mut body = original.body().like();
    body.target = target;
    body.purpose = Some(purpose(original));
    Bio::new(body)
}

pub(crate) struct Copies {
    memory: Memory,
}

impl Copies {
    pub(crate) const PAGES: usize = 4;

    pub(crate) fn new(count: usize) -> Result<KBox<Self>> {
        let memory = Rc::new(RefCell::new(vec![0; count]));
        KBox::new(Self { memory }, GFP_KERNEL)
    }

    pub(crate) fn copy_from(&mut self, from: &Bio, offset: u32) {
        let from = from.body();
        let first = from.first + (offset >> kernel::page::PAGE_SHIFT) as usize;
        self.memory.borrow_mut()[0] = from.memory.borrow()[first];
    }

    pub(crate) fn fill(&mut self, content: Content<'_>) {
        self.memory.borrow_mut()[0] = content.0;
    }

    pub(crate) fn content(&self) -> Option<Content<'_>> {
        Some(Content::of(self.memory.borrow()[0]))
    }
}

pub(crate) struct CopiesStack(Vec<KBox<Copies>>);

impl CopiesStack {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn push(&mut self, copies: KBox<Copies>) {
        // Nobody may rely on what was there before.
        copies.memory.borrow_mut().fill(0);
        self.0.push(copies);
    }

    pub(crate) fn pop(&mut self) -> Option<KBox<Copies>> {
        self.0.pop()
    }
}
