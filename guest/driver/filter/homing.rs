// SPDX-License-Identifier: GPL-2.0

//! Writing swapped out pages back: from the host to the disk, while the guest goes on.

use super::{
    purpose::Purpose,
    writeback::{
        Part,
        Writeback, //
    },
    Filter, //
};
use crate::{
    driver::tuning,
    sys::{
        self,
        bio::{
            BioList,
            Op,
            Pages,
            Status, //
        },
        clone::{
            Copies,
            CopiesStack, //
        },
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

impl Filter {
    /// Writes back all stored pages. The filter is closed, so they do not become more.
    ///
    /// # Errors
    ///
    /// `EINTR` when a signal comes; `EAGAIN` when the host is away; `EIO` when a page is lost or can't
    /// be read or written; `ENOMEM`. Those that are written back stay so.
    pub(super) fn bring_home(self: &Arc<Self>) -> Result {
        let mut stock = CopiesStack::new();
        for _ in 0..tuning::HOME_PARTS {
            stock.push(Copies::new(Copies::PAGES)?);
        }
        let writeback = Writeback::new(self.area.clone())?;
        let mut at = 0;
        loop {
            if sys::signal_pending() {
                return Err(EINTR);
            }
            let next = self.area.swap(|handles| {
                let next = handles.next_stored(at);
                next.or_else(|| handles.next_stored(0))
            });
            let Some(first) = next.flatten() else {
                break;
            };
            if !(self.area.is_ready() && self.engine.is_open()) {
                return Err(EAGAIN);
            }
            let count = (tuning::HOME_PARTS * Copies::PAGES) as u32;
            self.hold_homing(first, count);
            let moved = self.move_home(
                &writeback,
                Pages {
                    index: first,
                    count,
                },
                &mut stock,
            );
            self.release_homing();
            self.engine.schedule_flush(&self.area);
            moved?;
            at = first + u64::from(count);
        }
        let lost = self.area.swap(|handles| handles.lost()).unwrap_or(0);
        if lost > 0 {
            pr_err!(
                "{} pages of swap device {}:{} are lost: swap it off before the filter is detached\n",
                lost,
                self.number.0,
                self.number.1,
            );
            return Err(EIO);
        }
        Ok(())
    }

    /// Writes back what is stored of `window`. Writes to it wait meanwhile.
    fn move_home(
        self: &Arc<Self>,
        writeback: &Arc<Writeback>,
        window: Pages,
        stock: &mut CopiesStack,
    ) -> Result {
        self.gather_parts(writeback, window, stock);
        let clones = &self.engine.shared.clones;
        let mut reads = BioList::new();
        self.for_each_part(writeback, |pages, copies, at| {
            let flight = self.gate.enter();
            let purpose = |copies| Purpose::Writeback(copies, at, writeback.clone(), flight);
            let bio = clones.over(copies, Op::Read, pages, purpose)?;
            reads.push(bio);
            Ok(())
        });
        self.engine.dispatch(reads);
        writeback.wait();

        self.for_each_part(writeback, |pages, copies, at| {
            let flight = self.gate.enter();
            let purpose = |copies| Purpose::Writeback(copies, at, writeback.clone(), flight);
            let clones = self.hook.clones();
            clones.write(copies, pages, &self.shadow, self.origin, purpose)
        });
        writeback.wait();
        self.account_for(writeback, stock)
    }

    /// Makes parts of what is stored.
    fn gather_parts(&self, writeback: &Writeback, window: Pages, stock: &mut CopiesStack) {
        let end = window.index + u64::from(window.count);
        let mut at = window.index;
        while at < end {
            let run = self.area.swap(|handles| {
                let first = handles.next_stored(at).filter(|first| *first < end)?;
                let most = (first + Copies::PAGES as u64).min(end);
                let last = (first..most).find(|page| !handles.is_stored(*page));
                Some((first, last.unwrap_or(most)))
            });
            let Some((first, last)) = run.flatten() else {
                return;
            };
            let Some(copies) = stock.pop() else {
                return;
            };
            let part = Part {
                pages: Pages {
                    index: first,
                    count: (last - first) as u32,
                },
                status: Some(Status::OK),
                copies: Some(copies),
            };
            // There is room for as many as there are copies.
            let _ = writeback.parts.lock().push_within_capacity(part);
            at = last;
        }
    }

    /// Makes a bio for each part that is well so far.
    fn for_each_part(
        &self,
        writeback: &Writeback,
        mut make: impl FnMut(Pages, KBox<Copies>, usize) -> Result<(), KBox<Copies>>,
    ) {
        let mut at = 0;
        loop {
            let taken = {
                let mut parts = writeback.parts.lock();
                let Some(part) = parts.get_mut(at) else {
                    return;
                };
                let is_well = part.status.is_some_and(Status::is_ok);
                let copies = if is_well { part.copies.take() } else { None };
                copies.map(|copies| (part.pages, copies))
            };
            if let Some((pages, copies)) = taken {
                writeback.leaves();
                if let Err(copies) = make(pages, copies, at) {
                    // Without memory for a bio: the next round tries again.
                    writeback.arrived(copies, at, Status::AGAIN);
                }
            }
            at += 1;
        }
    }

    /// The pages that the disk has are not stored any more.
    fn account_for(&self, writeback: &Writeback, stock: &mut CopiesStack) -> Result {
        let mut result = Ok(());
        loop {
            let part = writeback.parts.lock().pop();
            let Some(part) = part else {
                return result;
            };
            if let Some(copies) = part.copies {
                stock.push(copies);
            }
            match part.status {
                Some(status) if status.is_ok() => {
                    self.area.swap(|handles| {
                        for i in 0..u64::from(part.pages.count) {
                            handles.free(part.pages.index + i);
                        }
                    });
                    self.area.counts.written_back.add(part.pages.count.into());
                }
                // Some were freed meanwhile, or there was no memory, or no host: see the next round.
                Some(status) if status.is_again() || status == Status::AGAIN => (),
                _ => {
                    self.area.counts.errors.add(part.pages.count.into());
                    result = Err(EIO);
                }
            }
        }
    }
}
