// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs of pages.

use super::Pool;
use crate::index::{BLOCK_PAGES, Key, split};
use crate::reclaim::Effort;
use crate::types::{Found, Get, Lost, ObjectId, PAGE_SIZE, Page, Put, Refused};

/// A page's block and place in it, or `None` if its index is 2^64 or more.
type Place<'a> = Option<(Key<'a>, usize)>;

impl Pool {
    /// Puts the pages `index..index + count`. `source` is asked for the data
    /// of each page by its place in the run and answers `false` if it cannot
    /// be read (the put is then [`Refused::Unreadable`], and an older page of
    /// that handle is removed); `done` is told each outcome, in order. Pages
    /// whose index would be 2^64 or more are [`Refused::Unreadable`]. Both are
    /// called without locks held.
    pub fn put_run(
        &self,
        object: &ObjectId,
        index: u64,
        count: u32,
        source: &mut dyn FnMut(u32, &mut Page) -> bool,
        done: &mut dyn FnMut(u32, Put),
    ) {
        let mut page = [0; PAGE_SIZE];
        let mut effort = Effort::run();
        self.each(object, index, count, &mut |at, place| {
            let put = match place {
                Some((key, nth)) if source(at, &mut page) => {
                    self.put_at(&key, nth, &page, &mut effort)
                }
                place => Put {
                    result: Err(Refused::Unreadable),
                    prior_removed: place.is_some_and(|(key, nth)| self.remove(&key, nth)),
                },
            };
            done(at, self.account.counters.put(put));
        });
    }

    /// Gets the pages `index..index + count` and hands each to `sink` by its
    /// place in the run, in order: the page, `None` on a miss, or [`Lost`].
    /// Pages whose index would be 2^64 or more are misses. `sink` is called
    /// without locks held.
    pub fn get_run(
        &self,
        object: &ObjectId,
        index: u64,
        count: u32,
        sink: &mut dyn FnMut(u32, Found<'_>),
    ) {
        let mut page = [0; PAGE_SIZE];
        self.each(object, index, count, &mut |at, place| {
            let get = place.map_or(Get::Miss, |(key, nth)| self.get_at(&key, nth, &mut page));
            let found = match self.account.counters.get(get) {
                Get::Hit => Ok(Some(&page)),
                Get::Miss => Ok(None),
                Get::Lost => Err(Lost),
            };
            sink(at, found);
        });
    }

    /// Names each page of a run, hashing once per block.
    fn each(
        &self,
        object: &ObjectId,
        index: u64,
        count: u32,
        visit: &mut dyn FnMut(u32, Place<'_>),
    ) {
        let mut key = Key::new(&self.seed, object, index / BLOCK_PAGES);
        for at in 0..count {
            let place = index.checked_add(u64::from(at)).map(|index| {
                let (block, nth) = split(index);
                if block != key.block {
                    key = Key::new(&self.seed, object, block);
                }
                (key, nth)
            });
            visit(at, place);
        }
    }
}
