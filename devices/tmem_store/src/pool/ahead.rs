// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages of a run that are in the spill area, or in remote memory: some of them are asked for together
//! before the first is waited for.

use super::Pages;
use crate::area::Reading;
use crate::index::Key;
use crate::tier::{Location, Pin};
use std::collections::VecDeque;

/// Pages of a run that are asked for together. Those who do not come make who asks wait no longer than
/// one of them would.
pub(super) const TOGETHER: u32 = 64;

/// A page that was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    at: u32,
    pub(super) found: Found,
    pub(super) reading: Box<dyn Reading>,
}

/// A page that was found in an index, held in place.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) pin: Pin,
    /// It was used before.
    pub(super) again: bool,
}

/// Pages that were asked for, in the order of their places in the run.
#[derive(Debug)]
pub(super) struct Ahead<'a> {
    pages: &'a Pages,
    asked: VecDeque<Asked>,
}

impl Ahead<'_> {
    /// The page at a place, if it was asked for.
    pub(super) fn take(&mut self, at: u32) -> Option<Asked> {
        let is_next = self.asked.front().is_some_and(|asked| asked.at == at);
        is_next.then(|| self.asked.pop_front()).flatten()
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        for asked in self.asked.drain(..) {
            self.pages.budget.unpin(asked.found.pin);
        }
    }
}

impl Pages {
    pub(super) fn ask_nothing(&self) -> Ahead<'_> {
        let asked = VecDeque::new();
        Ahead { pages: self, asked }
    }

    /// Asks for the pages of a run that are in the area. `each` calls what it is given with the place of every
    /// page of the run, and its name.
    pub(super) fn ask_ahead(
        &self,
        each: impl FnOnce(&mut dyn FnMut(u32, &Key<'_>, usize)),
    ) -> Ahead<'_> {
        let mut asked = VecDeque::new();
        let arena = &self.budget.store.arena;
        if arena.reads_ahead() && self.budget.log.spilled_pages() > 0 {
            each(&mut |at, key, nth| {
                if asked.try_reserve(1).is_err() {
                    return;
                }
                let is_spilled = |location: Location| arena.is_spilled(location);
                let shard = self.shard(key.shard());
                let Some((entry, again)) = shard.view_if(key, nth, is_spilled) else {
                    return;
                };
                let pin = self.budget.log.pin(arena, entry);
                drop(shard);
                match arena.begin_spilled(&pin) {
                    Some(reading) => asked.push_back(Asked {
                        at,
                        found: Found { pin, again },
                        reading,
                    }),
                    None => self.budget.unpin(pin),
                }
            });
        }
        Ahead { pages: self, asked }
    }
}
