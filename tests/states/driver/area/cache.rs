// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver's `Blocks`, and what would be wrong ways to use them.

use crate::driver::blocks::Blocks;
use crate::driver::blocks::Limits;
use crate::driver::blocks::Way;
use crate::driver::ticket::Ticket;
use crate::sys::bio::Pages;
use crate::tuning;
use crate::world::Fault;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::ops::DerefMut;

const LIMITS: Limits = Limits {
    seen: crate::MOST_SEEN,
    present: crate::MOST_PRESENT,
    buckets: tuning::BUCKETS,
    is_shared: false,
};

const SHARED: Limits = Limits {
    seen: 0,
    buckets: 1,
    is_shared: true,
    ..LIMITS
};

pub(crate) struct Cache {
    blocks: Blocks,
    fault: Option<Fault>,
    /// Counts writes, too, and never has one under way.
    clock: Blocks,
    /// Puts under way.
    puts: Vec<(u64, Ticket)>,
    /// What the host may have.
    known: BTreeSet<u64>,
    /// Writes that are to be noted when all their pages are absent.
    late: Vec<Pages>,
}

impl Deref for Cache {
    type Target = Blocks;

    fn deref(&self) -> &Blocks {
        &self.blocks
    }
}

impl DerefMut for Cache {
    fn deref_mut(&mut self) -> &mut Blocks {
        &mut self.blocks
    }
}

impl Cache {
    pub(super) fn new(pages: u64, is_shared: bool, fault: Option<Fault>) -> Self {
        let limits = if is_shared { SHARED } else { LIMITS };
        Self {
            blocks: Blocks::new(pages, limits).unwrap(),
            fault,
            clock: Blocks::new(if fault.is_some() { 1 } else { 0 }, LIMITS).unwrap(),
            puts: Vec::new(),
            known: BTreeSet::new(),
            late: Vec::new(),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// A ticket that is good for now.
    fn late_ticket(&self) -> Ticket {
        match self.clock.look(one(0)) {
            Way::Disk(Some(ticket)) => ticket,
            way => panic!("{way:?}"),
        }
    }

    pub(crate) fn look(&self, pages: Pages) -> Way {
        let mut each = pages.index..pages.index + u64::from(pages.count);
        if self.is(Fault::AsksAlways) && each.all(|page| self.known.contains(&page)) {
            return Way::Host(self.blocks.look(pages).ticket());
        }
        self.blocks.look(pages)
    }

    pub(crate) fn begin_write(&mut self, pages: Pages) {
        self.clock.begin_write(one(0));
        self.clock.end_write(one(0));
        match self.fault {
            Some(Fault::NoWrites | Fault::LateWrites) => (),
            Some(Fault::AbsentFirst) => self.late.push(pages),
            Some(Fault::ShortWrites) => {
                self.blocks.begin_write(pages);
                self.blocks.end_write(pages);
            }
            _ => self.blocks.begin_write(pages),
        }
    }

    pub(crate) fn remove(&mut self, part: Pages) -> u64 {
        assert!(u64::from(part.count) <= tuning::EXTENT_PAGES);
        match self.fault {
            Some(Fault::NoWrites | Fault::LateWrites) => 0,
            Some(Fault::AbsentFirst) => {
                let removed = self.blocks.remove(part);
                let is_last = |pages: &Pages| pages.end() == part.end();
                if let Some(at) = self.late.iter().position(is_last) {
                    self.blocks.begin_write(self.late.remove(at));
                }
                removed
            }
            _ => self.blocks.remove(part),
        }
    }

    pub(crate) fn end_write(&mut self, pages: Pages) {
        match self.fault {
            Some(Fault::NoWrites | Fault::ShortWrites) => (),
            Some(Fault::LateWrites) => {
                self.blocks.begin_write(pages);
                self.blocks.remove(pages);
                self.blocks.end_write(pages);
            }
            _ => self.blocks.end_write(pages),
        }
    }

    pub(crate) fn begin_puts(&mut self, pages: Pages, ticket: Ticket, eager: bool) -> u64 {
        if self.fault.is_none() {
            let begun = self.blocks.begin_puts(pages, ticket, eager);
            let is_begun = |page: &u64| begun >> (page - pages.index) & 1 != 0;
            let puts = (pages.index..pages.end()).filter(is_begun);
            self.puts.extend(puts.map(|page| (page, ticket)));
            return begun;
        }
        // Faults are those of single puts; they need no reads before.
        let begin = |(at, page)| u64::from(self.begin_put(page, ticket)) << at;
        let begun = (0..).zip(pages.index..pages.end()).map(begin);
        begun.fold(0, |all, bit| all | bit)
    }

    pub(crate) fn begin_put(&mut self, page: u64, ticket: Ticket) -> bool {
        let (first, ticket) = match self.fault {
            Some(Fault::LateTicket) => (self.late_ticket(), self.late_ticket()),
            Some(Fault::NoCheck) => (self.late_ticket(), ticket),
            _ => (ticket, ticket),
        };
        // Nor does this one look whether it is there.
        let was_there = self.is(Fault::NoCheck) && self.is_there(page);
        if was_there {
            self.blocks.vanish(page);
        }
        let is_begun = self.blocks.begin_put(page, first);
        if was_there && is_begun {
            self.blocks.answer_put(page, true);
        }
        if is_begun {
            self.puts.push((page, ticket));
            if self.is(Fault::TwoPuts) {
                self.blocks.end_put(page, true);
            }
        }
        is_begun
    }

    fn is_there(&self, page: u64) -> bool {
        matches!(self.blocks.look(one(page)), Way::Host(_))
    }

    pub(crate) fn is_worth_putting(&self, page: u64) -> bool {
        let never_looks = [Fault::NoCheck, Fault::NoRecheck, Fault::TwoPuts];
        never_looks.into_iter().any(|fault| self.is(fault)) || self.blocks.is_worth_putting(page)
    }

    pub(crate) fn answer_put(&mut self, page: u64, is_taken: bool) -> bool {
        if is_taken {
            self.known.insert(page);
        } else {
            self.known.remove(&page);
        }
        let mut puts = self.puts.iter();
        let (_, ticket) = *puts.find(|(put, _)| *put == page).unwrap();
        match self.fault {
            Some(Fault::NoRecheck) => {
                self.blocks.end_put(page, true);
                self.blocks.begin_put(page, self.late_ticket());
                self.blocks.answer_put(page, is_taken)
            }
            Some(Fault::NoCheck) => {
                self.blocks.end_put(page, true);
                self.blocks.vanish(page);
                self.blocks.begin_put(page, ticket);
                self.blocks.answer_put(page, is_taken)
            }
            Some(Fault::TwoPuts) => {
                self.blocks.vanish(page);
                self.blocks.begin_put(page, ticket);
                let is_good = self.blocks.answer_put(page, is_taken);
                self.blocks.end_put(page, true);
                is_good
            }
            _ => self.blocks.answer_put(page, is_taken),
        }
    }

    pub(crate) fn end_put(&mut self, page: u64, answered: bool) {
        let at = self.puts.iter().position(|(put, _)| *put == page);
        self.puts.remove(at.unwrap());
        self.blocks.end_put(page, answered);
    }

    pub(crate) fn vanish(&mut self, page: u64) {
        self.known.remove(&page);
        self.blocks.vanish(page);
    }

    pub(crate) fn arrive(&mut self, page: u64) {
        self.blocks.arrive(page);
    }

    pub(super) fn lose_all(&mut self) {
        self.known.clear();
        self.blocks.forget_all();
    }

    /// A page that should not be on the host, or is not what the disk has there, according to
    /// `is_right`.
    pub(crate) fn wrong(
        &self,
        mut pages: impl Iterator<Item = u64>,
        is_right: impl Fn(u64) -> bool,
    ) -> Option<u64> {
        pages.find(|page| self.is_there(*page) && !is_right(*page))
    }
}

fn one(index: u64) -> Pages {
    Pages { index, count: 1 }
}
