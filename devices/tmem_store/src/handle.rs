// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pools of a client, as callers have them.

use crate::pool::{Attempt, Older, Pages};
use crate::reclaim::{Effort, Member};
use crate::sync::Arc;
use crate::tier::Payload;
use crate::types::{Found, Get, ObjectId, Page, PoolKind, Put};
#[cfg(doc)]
use crate::types::{Lost, Refused};

/// A pool of pages. Cloning gives another handle to it.
///
/// Every operation may run concurrently with every other; concurrent operations on one
/// handle of a page happen in some order. After the pool was destroyed puts are refused,
/// gets miss and flushes remove nothing.
#[derive(Clone, Debug)]
pub struct Pool {
    member: Arc<Member>,
    pages: Arc<Pages>,
}

impl Pool {
    pub(crate) fn new(member: Arc<Member>, pages: Arc<Pages>) -> Self {
        Self { member, pages }
    }

    /// What is behind the handle.
    #[cfg(test)]
    pub(crate) fn pages(&self) -> &Arc<Pages> {
        &self.pages
    }

    /// What the pool promises about its pages.
    pub fn kind(&self) -> PoolKind {
        self.pages.kind()
    }

    /// Bytes that the store holds for the pool: entries of its pages and its
    /// index. Segments are shared by all pools of a client, so that the sum over
    /// its pools is less than what the client holds.
    pub fn held_bytes(&self) -> u64 {
        self.pages.held_bytes()
    }

    /// Copies `page` into the store, in place of an older page of that handle.
    /// If it is refused, nothing is under the handle any more.
    pub fn put(&self, object: &ObjectId, index: u64, page: &Page) -> Put {
        self.put_with(object, index, page, Older::Goes)
    }

    /// As [`Pool::put`], but if it is refused, the older page stays where it is, and gets find
    /// it until the new one is there. Pages that have no older one leave a part of the client's
    /// quota, about a thirty-second, for those that have: both are held for a moment. For
    /// persistent pools: in others it is a put.
    pub fn put_or_keep(&self, object: &ObjectId, index: u64, page: &Page) -> Put {
        let older = match self.kind() {
            PoolKind::Persistent => Older::Stays,
            PoolKind::Ephemeral => Older::Goes,
        };
        self.put_with(object, index, page, older)
    }

    fn put_with(&self, object: &ObjectId, index: u64, page: &Page, older: Older) -> Put {
        let mut effort = Effort::one();
        let mut find = |attempt: Attempt<'_>| self.member.find_memory(attempt, &mut effort);
        self.pages.put(object, index, page, older, &mut find)
    }

    /// Puts a page as it was kept elsewhere, in place of an older one.
    pub(crate) fn put_payload(&self, object: &ObjectId, index: u64, payload: Payload<'_>) -> Put {
        let mut effort = Effort::one();
        let mut find = |attempt: Attempt<'_>| self.member.find_memory(attempt, &mut effort);
        self.pages.put_payload(object, index, payload, &mut find)
    }

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
        let mut effort = Effort::run();
        let mut find = |attempt: Attempt<'_>| self.member.find_memory(attempt, &mut effort);
        self.pages
            .put_run(object, index, count, source, done, &mut find);
    }

    /// Copies a page out of the store, straight into `page`, which is not
    /// touched on a miss.
    pub fn get(&self, object: &ObjectId, index: u64, page: &mut Page) -> Get {
        self.pages.get(object, index, page)
    }

    /// A get that also removes the page. For ephemeral pools: a removing get
    /// cannot be replayed.
    pub fn take(&self, object: &ObjectId, index: u64, page: &mut Page) -> Get {
        self.pages.take(object, index, page)
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
        self.get_run_while(object, index, count, &mut || true, sink);
    }

    /// As [`Pool::get_run`]; a page that takes long to bring back asks `go_on` now and then whether it
    /// may. `false` if it was stopped: the pages from there on were not looked at.
    pub fn get_run_while(
        &self,
        object: &ObjectId,
        index: u64,
        count: u32,
        go_on: &mut dyn FnMut() -> bool,
        sink: &mut dyn FnMut(u32, Found<'_>),
    ) -> bool {
        self.pages.get_run_while(object, index, count, go_on, sink)
    }

    /// Removes the pages `index..index + count` and returns how many were
    /// there. The range ends at 2^64 at the latest. The cost depends on the
    /// pages present, not on `count`.
    pub fn flush(&self, object: &ObjectId, index: u64, count: u64) -> u64 {
        let Some(last) = count.checked_sub(1).map(|more| index.saturating_add(more)) else {
            return 0;
        };
        self.flush_ranges(object, &mut [(index, last)])
    }

    /// Removes every page of an object and returns how many were there.
    pub fn flush_object(&self, object: &ObjectId) -> u64 {
        self.flush_ranges(object, &mut [(0, u64::MAX)])
    }

    /// Removes the pages of some ranges of an object, from the first index to the last, and returns
    /// how many were there. The ranges may overlap and come in any order; they are put in order and
    /// joined in place. The cost is that of the blocks in all ranges or that of the object's blocks,
    /// whichever are fewer: ranges do not multiply it.
    pub fn flush_ranges(&self, object: &ObjectId, ranges: &mut [(u64, u64)]) -> u64 {
        self.flush_ranges_while(object, ranges, &mut || true)
            .unwrap_or(0)
    }

    /// As [`Pool::flush_ranges`], for as long as `go_on` says so, which is asked every few hundred
    /// blocks without locks held; `None` if it was stopped. What it had removed by then is removed.
    pub fn flush_ranges_while(
        &self,
        object: &ObjectId,
        ranges: &mut [(u64, u64)],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<u64> {
        self.pages.flush_ranges_while(object, ranges, go_on)
    }

    /// Removes all pages, for as long as `go_on` says so, which is asked every few hundred blocks
    /// without locks held; `None` if it was stopped. Counted as pages of a destroyed pool: this is
    /// how [`Client::destroy_pool`](crate::Client::destroy_pool) is prepared where the pool may be
    /// too large to be destroyed in one go.
    pub fn drain_while(&self, go_on: &mut dyn FnMut() -> bool) -> Option<u64> {
        self.pages.drain_while(go_on)
    }
}
