// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A pool over another one: copy on write.
//!
//! The pool below is of a base ([`crate::base`]), which no client changes any more. A *whiteout*, an
//! entry without a payload in the client's own log, hides the page below that has the same handle, from
//! the first put or flush of it on, whatever is under it above. (The word is that of union mounts.)
//!
//! What is above counts first. So a put of a persistent page comes before its whiteout, and a flush after
//! it: a get that looks for the whiteout first, then above and then below, finds what was there before
//! or after, and so does who makes the index anew. A put of an ephemeral page comes after its
//! whiteout: it may be evicted at any time, and what is below must not come back.

use super::Pages;
use crate::index::{Key, SHARDS, Walk, split};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use crate::tier::{Codec, Content, Owner, Payload, Temperature};
use crate::types::{Get, ObjectId, Page, PoolKind, Put};

/// The object of marks that say from which pools nothing is seen below any more.
const MARKS: ObjectId = [0; 24];

/// What a pool has below it.
#[derive(Debug)]
pub(crate) struct Below {
    /// The base's.
    pages: Arc<Pages>,
    /// Of the client: one for each page below that is not seen.
    pub(super) whiteouts: Arc<Pages>,
    /// Of the client: one mark for each pool that sees nothing below any more.
    marks: Arc<Pages>,
    /// Nothing below is seen any more.
    is_cut: AtomicBool,
    /// A page was to be hidden, and the system had no memory: none of them can be believed to be there.
    is_lost: AtomicBool,
    /// Pages below that have no whiteout.
    seen: AtomicU64,
    /// Bytes of them that count for the client's quota.
    bytes: AtomicU64,
}

impl Below {
    /// What a pool has that is made over `pages`, of which it sees all that have no whiteout.
    pub(super) fn new(pages: Arc<Pages>, whiteouts: Arc<Pages>, marks: Arc<Pages>) -> Arc<Self> {
        let this = Arc::new(Self {
            pages,
            whiteouts,
            marks,
            is_cut: AtomicBool::new(false),
            is_lost: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        this.pages.viewers.add(&this);
        this.count_anew();
        this
    }

    /// Counts what is seen, by what has whiteouts. Nobody changes that meanwhile.
    fn count_anew(&self) {
        let all = self.pages.count();
        let seen = all.saturating_sub(self.whiteouts.count());
        let bytes = match self.pages.kind() {
            // Those may go at any time, and are the base's.
            PoolKind::Ephemeral => 0,
            PoolKind::Persistent => self.pages.all_bytes() / all.max(1) * seen,
        };
        self.count(true, seen, bytes);
        let before = [(&self.seen, seen), (&self.bytes, bytes)];
        let [seen, bytes] = before.map(|(sum, now)| sum.swap(now, Relaxed));
        self.count(false, seen, bytes);
    }

    /// Counts pages that are seen, or not any more.
    fn count(&self, is_more: bool, pages: u64, bytes: u64) {
        let kind = self.pages.kind();
        self.whiteouts
            .budget
            .shared
            .count(kind, is_more, pages, bytes);
    }

    /// Whether nothing below is seen any more.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Relaxed)
    }

    /// Pages below that are seen.
    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Relaxed)
    }

    /// Whether a page below has a whiteout.
    pub(super) fn hides(&self, key: &Key<'_>, nth: usize) -> bool {
        self.whiteouts.has_itself(key, nth)
    }

    /// Whether there is a page below that is seen.
    fn has(&self, key: &Key<'_>, nth: usize) -> bool {
        !self.is_cut() && !self.hides(key, nth) && self.pages.has(key, nth)
    }

    /// Sees to it that a page below is not seen; whether it was.
    fn hide(&self, key: &Key<'_>, nth: usize) -> bool {
        if !self.has(key, nth) {
            return false;
        }
        match self.whiteouts.mark(key, nth) {
            Some(false) => false,
            Some(true) => {
                self.hid_one();
                true
            }
            None => {
                self.is_lost.store(true, Relaxed);
                true
            }
        }
    }

    /// One page fewer is seen.
    fn hid_one(&self) {
        let one_fewer = |seen: u64| seen.checked_sub(1);
        // An estimate where pages of the base were evicted.
        let Ok(seen) = self.seen.fetch_update(Relaxed, Relaxed, one_fewer) else {
            return;
        };
        let part = |bytes: u64| Some(bytes - bytes / seen.max(1));
        let before = self.bytes.fetch_update(Relaxed, Relaxed, part);
        let bytes = before.map_or(0, |before| before / seen.max(1));
        self.count(false, 1, bytes);
    }

    /// Nothing below is seen from now on, also by who makes the index anew. Whether there was
    /// memory to say so.
    fn cut(&self) -> bool {
        let (block, nth) = split(self.whiteouts.tag.visible_id().into());
        let key = Key::new(&self.marks.seed, &MARKS, block);
        let is_marked = self.marks.mark(&key, nth).is_some();
        self.cut_unmarked();
        is_marked
    }

    /// Nothing below is seen from now on.
    fn cut_unmarked(&self) {
        if !self.is_cut.swap(true, Relaxed) {
            let [seen, bytes] = [&self.seen, &self.bytes].map(|sum| sum.swap(0, Relaxed));
            self.count(false, seen, bytes);
        }
    }

    /// Whether what is below was cut off by an earlier store.
    fn is_marked(&self) -> bool {
        let (block, nth) = split(self.whiteouts.tag.visible_id().into());
        let key = Key::new(&self.marks.seed, &MARKS, block);
        self.marks.has_itself(&key, nth)
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        self.cut_unmarked();
    }
}

impl Pages {
    /// What is below and seen, if anything is.
    pub(super) fn below(&self) -> Option<&Below> {
        self.below.as_deref().filter(|below| !below.is_cut())
    }

    /// Pages that are there.
    pub(crate) fn count(&self) -> u64 {
        self.count_itself() + self.below().map_or(0, Below::seen)
    }

    /// Pages of the pool itself.
    pub(crate) fn count_itself(&self) -> u64 {
        (0..SHARDS).map(|nth| self.shard(nth).pages()).sum()
    }

    /// Bytes of them, and of those below that are seen.
    pub(crate) fn all_bytes(&self) -> u64 {
        let below = self.below().map_or(0, |below| below.bytes.load(Relaxed));
        self.held_bytes() + below
    }

    /// Whether the pool itself has a page.
    pub(super) fn has_itself(&self, key: &Key<'_>, nth: usize) -> bool {
        self.shard(key.shard()).has(key, nth)
    }

    /// Whether a page is there.
    pub(super) fn has(&self, key: &Key<'_>, nth: usize) -> bool {
        let is_seen = |below: &Below| below.has(key, nth);
        // In this order: see above.
        let is_hidden = self.below().is_some_and(|below| below.hides(key, nth));
        self.has_itself(key, nth) || (!is_hidden && self.below().is_some_and(is_seen))
    }

    /// Whether a page below is seen where one is about to be put. One that is ephemeral is hidden at once:
    /// it must not come back when the new page is evicted.
    pub(super) fn older_below(&self, key: &Key<'_>, nth: usize) -> bool {
        match self.kind() {
            PoolKind::Persistent => self.below().is_some_and(|below| below.has(key, nth)),
            PoolKind::Ephemeral => self.hide_below(key, nth),
        }
    }

    /// After a put, before which a page below was seen or not: what was kept hides it.
    pub(super) fn put_over(&self, key: &Key<'_>, nth: usize, was_seen: bool, put: Put) -> Put {
        let is_hidden = was_seen
            && match self.kind() {
                PoolKind::Persistent => put.result.is_ok() && self.hide_below(key, nth),
                PoolKind::Ephemeral => true,
            };
        Put {
            prior_removed: put.prior_removed || is_hidden,
            ..put
        }
    }

    /// Whether a page below has a whiteout. To be asked before the pool itself is.
    pub(super) fn hides_below(&self, key: &Key<'_>, nth: usize) -> bool {
        self.below().is_some_and(|below| below.hides(key, nth))
    }

    /// Sees to it that a page below is not seen; whether it was.
    pub(super) fn hide_below(&self, key: &Key<'_>, nth: usize) -> bool {
        self.below().is_some_and(|below| below.hide(key, nth))
    }

    /// The pool and those that it is over, from the top.
    pub(crate) fn levels(self: &Arc<Self>) -> Arc<[Arc<Self>]> {
        let below = |pages: &Arc<Self>| pages.below().map(|below| below.pages.clone());
        std::iter::successors(Some(self.clone()), below).collect()
    }

    /// Whether the pool has a page, or hides it, so that one below with this handle is not seen.
    pub(crate) fn covers(&self, owner: &Owner<'_>) -> bool {
        let (block, nth) = split(owner.index);
        let key = Key::new(&self.seed, owner.object, block);
        self.has_itself(&key, nth) || self.hides_below(&key, nth)
    }

    /// A get of a page that the pool itself does not have.
    pub(super) fn get_below(
        &self,
        key: &Key<'_>,
        nth: usize,
        page: &mut Page,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<Get> {
        let Some(below) = self.below() else {
            return Some(Get::Miss);
        };
        if below.is_lost.load(Relaxed) && below.pages.has(key, nth) {
            return Some(Get::Lost);
        }
        below.pages.get_at(key, nth, page, go_on)
    }

    /// A page below that the caller has just hidden.
    pub(super) fn get_hidden(&self, key: &Key<'_>, nth: usize, page: &mut Page) -> Get {
        // Nobody stops it.
        let get = self.get_below(key, nth, page, &mut || true);
        get.unwrap_or(Get::Lost)
    }

    /// Sees to it that no page below is seen in ranges of an object, which are in order and apart from each
    /// other; how many were that are not above, too. `None` if `go_on` stopped it.
    pub(super) fn hide_ranges(
        &self,
        object: &ObjectId,
        ranges: &[(u64, u64)],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<u64> {
        let Some(below) = self.below() else {
            return Some(0);
        };
        let mut hidden = 0;
        let mut found = Vec::new();
        let mut next = Some(&*below.pages);
        while let Some(pages) = next {
            for shard in pages.shards_of(object, ranges) {
                let mut walk = Walk::Start;
                while walk != Walk::Done {
                    let at = pages.shard(shard);
                    at.look(object, ranges, shard, &mut walk, &mut |index| {
                        found.push(index);
                    });
                    drop(at);
                    for index in found.drain(..) {
                        let (block, nth) = split(index);
                        let key = Key::new(&self.seed, object, block);
                        let is_above = self.has_itself(&key, nth);
                        hidden += u64::from(below.hide(&key, nth) && !is_above);
                    }
                    if walk != Walk::Done && !go_on() {
                        return None;
                    }
                }
            }
            next = pages.below().map(|below| &*below.pages);
        }
        Some(hidden)
    }

    /// Cuts off what is below for good, and gives the pages that were seen.
    pub(crate) fn cut_below(&self) -> u64 {
        let seen = self.below().map_or(0, Below::seen);
        if let Some(below) = self.below() {
            // If the system has no memory for the mark, that is all the next store does not know.
            let _ = below.cut();
        }
        seen
    }

    /// Removes what hid pages below, after these were cut off; whether that was all.
    pub(super) fn drain_whiteouts(&self, go_on: &mut dyn FnMut() -> bool) -> bool {
        let cut = self.below.as_ref().filter(|below| below.is_cut());
        cut.is_none_or(|below| below.whiteouts.drain_itself(go_on).1)
    }

    /// Once all that an earlier store has left was found: whether the pool is still over another one. If
    /// that store had cut it off, it is not.
    pub(crate) fn goes_on_over(&self) -> bool {
        let Some(below) = self.below() else {
            return false;
        };
        let is_marked = below.is_marked();
        if is_marked {
            below.cut_unmarked();
        } else {
            below.count_anew();
        }
        !is_marked
    }

    /// Whether the pool is over another one.
    pub(crate) fn is_over(&self) -> bool {
        self.below().is_some()
    }

    /// Makes an entry without a payload; whether there was none. `None` if the system has no memory for
    /// it: quotas and limits do not matter, as some was set aside.
    fn mark(&self, key: &Key<'_>, nth: usize) -> Option<bool> {
        if self.has_itself(key, nth) {
            return Some(false);
        }
        let payload = Payload {
            codec: Codec::Same,
            bytes: &[],
        };
        let owner = self.owner(key, nth);
        let charge = |bytes| {
            self.budget.charge_anyway(bytes);
            Ok(())
        };
        let entry = self
            .budget
            .append(Temperature::Cold, &owner, payload, charge);
        let entry = entry.ok()?;
        self.charge_self_anyway(entry.footprint() as u64);
        let mut entry = Some(Content::Entry(entry));
        let made = self.change(key.shard(), |change| {
            if change.shard.gone || change.shard.has(key, nth) {
                return Some(false);
            }
            let number = change.shard.prepare(key, 0, &mut |_| true).ok()?;
            let content = entry.take()?;
            self.budget.publish(content.view());
            let _ = change.shard.put(number, nth, 0, content);
            Some(true)
        });
        if let Some(entry) = entry {
            self.free(entry);
        }
        if made == Some(true) {
            self.budget.end_aside();
        }
        made
    }
}
