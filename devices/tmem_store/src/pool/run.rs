// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs of pages.

use super::Pages;
use super::ahead::TOGETHER;
use super::put::{Attempt, Older};
use crate::index::{BLOCK_PAGES, Key, split};
use crate::types::{Found, Get, Lost, ObjectId, PAGE_SIZE, Page, Put, Refused};
use std::ops::Range;

/// A page's block and place in it, or `None` if its index is 2^64 or more.
type Place<'a> = Option<(Key<'a>, usize)>;

impl Pages {
    /// See [`crate::Pool::put_run`]; `find` has pages that need memory try until they are
    /// done.
    pub(crate) fn put_run(
        &self,
        object: &ObjectId,
        index: u64,
        count: u32,
        source: &mut dyn FnMut(u32, &mut Page) -> bool,
        done: &mut dyn FnMut(u32, Put),
        find: &mut dyn FnMut(Attempt<'_>) -> Put,
    ) {
        let mut page = [0; PAGE_SIZE];
        self.each(object, index, 0..count, &mut |at, place| {
            let put = match place {
                Some((key, nth)) if source(at, &mut page) => {
                    self.put_at(&key, nth, &page, Older::Goes, find)
                }
                place => Put {
                    result: Err(Refused::Unreadable),
                    prior_removed: place.is_some_and(|(key, nth)| self.remove(&key, nth)),
                },
            };
            done(at, self.budget.counters.put(put));
        });
    }

    /// See [`crate::Pool::get_run_while`].
    pub(crate) fn get_run_while(
        &self,
        object: &ObjectId,
        index: u64,
        count: u32,
        go_on: &mut dyn FnMut() -> bool,
        sink: &mut dyn FnMut(u32, Found<'_>),
    ) -> bool {
        let mut page = [0; PAGE_SIZE];
        let mut is_stopped = false;
        let mut ahead = self.ask_nothing();
        self.each(object, index, 0..count, &mut |at, place| {
            if is_stopped {
                return;
            }
            if at % TOGETHER == 0 && count - at > 1 {
                ahead = self.ask_ahead(|ask| {
                    let some = at..count.min(at + TOGETHER);
                    self.each(object, index, some, &mut |at, place| {
                        if let Some((key, nth)) = place {
                            ask(at, &key, nth);
                        }
                    });
                });
            }
            let get = place.map_or(Some(Get::Miss), |(key, nth)| match ahead.take(at) {
                Some(asked) => self.get_asked(&key, nth, asked, &mut page, go_on),
                None => self.get_at(&key, nth, &mut page, go_on),
            });
            let Some(get) = get else {
                is_stopped = true;
                return;
            };
            let found = match self.budget.counters.get(get) {
                Get::Hit => Ok(Some(&page)),
                Get::Miss => Ok(None),
                Get::Lost => Err(Lost),
            };
            sink(at, found);
        });
        !is_stopped
    }

    /// Names some pages of a run, hashing once per block.
    fn each(
        &self,
        object: &ObjectId,
        index: u64,
        pages: Range<u32>,
        visit: &mut dyn FnMut(u32, Place<'_>),
    ) {
        let mut key = Key::new(&self.seed, object, index / BLOCK_PAGES);
        for at in pages {
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
