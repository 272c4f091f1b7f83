// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A client and its pools: what it gives up itself.

use std::collections::BTreeMap;

use super::cleaner::{Cleaned, Cleaner};
use super::{Effort, Reclaimer};
use crate::budget::Budget;
use crate::pool::Pages;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::tier::PoolTag;
use crate::types::{Error, PoolKind};

/// A client among all those that share a store's memory.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) budget: Arc<Budget>,
    pub(super) reclaimer: Arc<Reclaimer>,
    pools: RwLock<BTreeMap<u32, Arc<Pages>>>,
    /// Pools that were made.
    made: AtomicU64,
    pub(super) cleaner: Mutex<Cleaner>,
    /// Its pools are those of a base.
    pub(crate) is_base: AtomicBool,
    /// Changes when it was last seen to have changed, and when that was, by the arena's
    /// clock in milliseconds.
    pub(super) seen: Mutex<(u64, u64)>,
    /// The quota was changed, and what is held was not yet brought within it.
    shrinks: AtomicBool,
    /// The quota is used up, and sparse segments of the spill area are to be moved together.
    pub(super) wants_area_cleaned: AtomicBool,
}

impl Member {
    pub(crate) fn new(reclaimer: Arc<Reclaimer>, budget: Arc<Budget>) -> Self {
        Self {
            budget,
            reclaimer,
            pools: RwLock::default(),
            is_base: AtomicBool::new(false),
            made: AtomicU64::new(0),
            cleaner: Mutex::default(),
            seen: Mutex::default(),
            shrinks: AtomicBool::new(false),
            wants_area_cleaned: AtomicBool::new(false),
        }
    }

    /// A client of the same store, which is not among its clients yet.
    pub(crate) fn successor(&self, budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self::new(self.reclaimer.clone(), budget))
    }

    /// Has it be one of them.
    ///
    /// # Errors
    /// There are too many, or one has this identity.
    pub(crate) fn join(self: &Arc<Self>) -> Result<(), Error> {
        self.reclaimer.add(self)
    }

    pub(crate) fn pools(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Arc<Pages>>> {
        self.pools.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool with a number.
    pub(crate) fn pool(&self, id: u32) -> Option<Arc<Pages>> {
        self.pools().get(&id).cloned()
    }

    /// The pools that the client knows of, by their numbers.
    pub(crate) fn visible_pools(&self) -> Vec<(u32, Arc<Pages>)> {
        let pools = self.pools();
        let visible = pools.iter().filter(|(id, _)| **id <= PoolTag::MOST);
        visible.map(|(id, pool)| (*id, pool.clone())).collect()
    }

    pub(crate) fn pools_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u32, Arc<Pages>>> {
        self.pools.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tag of a pool that is made now.
    pub(crate) fn tag(&self, id: u32, kind: PoolKind) -> PoolTag {
        PoolTag::new(id, kind, self.made.fetch_add(1, Relaxed))
    }

    /// Pools that are made from now on come after one with this tag.
    pub(crate) fn made_after(&self, tag: PoolTag) {
        self.made.fetch_max(tag.made() + 1, Relaxed);
    }

    /// Destroys all pools, and forgets the client.
    pub(crate) fn end(self: &Arc<Self>) {
        // The lock is not held while pools are destroyed. Nothing below is seen of those that go.
        let pools = std::mem::take(&mut *self.pools_mut());
        for pool in pools.into_values() {
            pool.destroy();
        }
        self.budget.end_all_aside();
        self.leave();
    }

    /// Forgets the client, whose pools are gone.
    pub(crate) fn leave(self: &Arc<Self>) {
        self.reclaimer.remove(self);
    }

    /// Whether a put of a new persistent page would be refused now.
    pub(crate) fn is_full(&self) -> bool {
        let budget = &self.budget;
        if budget.is_frozen() {
            return true;
        }
        let has_room = budget.has_room();
        if (has_room && budget.store.has_room()) || budget.can_evict() {
            return false;
        }
        if has_room && self.reclaimer.can_demote() {
            return false;
        }
        // The others' ephemeral pages come last: asking takes a lock.
        budget.is_hopeless() && !(has_room && self.reclaimer.can_evict())
    }

    /// Compresses some of the client's deferred pages; whether it is worth
    /// looking for memory again. Only the `patient` wait for a shard's lock.
    pub(super) fn compress_now(&self, effort: &mut Effort, patient: bool) -> bool {
        let deferred = || self.budget.has_deferred();
        compress_while(effort, deferred, || {
            let pools = self.pools();
            let mut done = pools.values().map(|pool| pool.compress_now(patient));
            done.find(|done| *done > 0).unwrap_or(0)
        })
    }

    /// Makes room within the client's quota; whether it is worth trying again.
    pub(super) fn make_own_room(&self, effort: &mut Effort) -> bool {
        if self.budget.trim() || self.clean_spilled(effort) {
            return true;
        }
        let cleaned = self.clean(effort, true);
        self.cleaned_or_evicted(cleaned, effort, true)
    }

    /// Gives up what holds nothing, or else some ephemeral pages, for the store; whether there was
    /// any.
    pub(super) fn give_up(&self, effort: &mut Effort, patient: bool) -> bool {
        let cleaned = self.clean_for_store(effort, patient);
        self.cleaned_or_evicted(cleaned, effort, patient)
    }

    /// After cleaning, evicts some ephemeral pages if nothing came of it; whether there is room.
    fn cleaned_or_evicted(&self, cleaned: Cleaned, effort: &mut Effort, patient: bool) -> bool {
        if cleaned == Cleaned::Busy && patient {
            effort.held_up();
        }
        match cleaned {
            Cleaned::Memory => true,
            // What others have evicted comes back soon: no more need go for it.
            Cleaned::Busy if effort.wait() => true,
            Cleaned::Busy | Cleaned::Nothing => self.evict(effort, patient) > 0,
        }
    }

    /// Changes what ephemeral pools may hold, and evicts what is beyond it.
    pub(crate) fn change_ephemeral_quota(&self, bytes: u64) {
        let ephemeral = &self.budget.ephemeral;
        ephemeral.set_quota(bytes);
        while ephemeral.is_beyond() {
            let mut effort = Effort::background();
            if !self.compress_now(&mut effort, true) && self.evict(&mut effort, true) == 0 {
                return;
            }
        }
    }

    /// Evicts ephemeral pages until `bytes` of what is held have come back or none is left;
    /// how many went.
    pub(crate) fn evict_bytes(&self, bytes: u64) -> u64 {
        let budget = &self.budget;
        let goal = budget.held().saturating_sub(bytes);
        // Others may put pages meanwhile.
        let most = budget.counters.ephemeral_pages.get();
        let mut evicted = 0;
        while budget.held() > goal {
            let mut effort = Effort::background();
            if budget.trim()
                || self.compress_now(&mut effort, true)
                || self.clean(&mut effort, true).is_memory()
            {
                continue;
            }
            if evicted >= most {
                break;
            }
            match self.evict(&mut effort, true) {
                0 => break,
                pages => evicted += pages,
            }
        }
        evicted
    }

    /// Evicts the oldest block of the client's ephemeral pools and returns
    /// how many pages it had. Only the `patient` wait for a shard's lock.
    pub(crate) fn evict(&self, effort: &mut Effort, patient: bool) -> u64 {
        /// Looks for a block that was not used, before any will do.
        const SPARING: u32 = 64;
        let mut looks = 0;
        // A shard may be emptied between the look and the eviction, or all its
        // blocks may be in use; those that are spared are spared once.
        while self.budget.can_evict() && effort.look() {
            let Some((shard, pool)) = self.oldest() else {
                return 0;
            };
            match pool.evict(shard, looks < SPARING, patient) {
                Some(0) => {}
                Some(pages) => return pages,
                None => crate::sync::thread::yield_now(),
            }
            looks += 1;
        }
        0
    }

    /// The pool with the oldest block, and the shard that it is in.
    fn oldest(&self) -> Option<(usize, Arc<Pages>)> {
        let pools = self.pools();
        let ephemeral = pools.values().filter(|p| p.kind() == PoolKind::Ephemeral);
        let oldest = ephemeral
            .filter_map(|pool| pool.oldest().map(|(stamp, shard)| (stamp, shard, pool)))
            .min_by_key(|(stamp, ..)| *stamp);
        oldest.map(|(_, shard, pool)| (shard, pool.clone()))
    }

    /// Changes the quota. The client is brought within it in the background, or
    /// at once if nobody works there.
    pub(crate) fn change_quota(&self, bytes: u64) {
        self.budget.set_quota(bytes);
        self.shrinks.store(true, Relaxed);
        if self.reclaimer.budget.has_helpers() {
            self.reclaimer.shrinks.store(true, Relaxed);
            self.budget.store.wake_up.wake();
            return;
        }
        while self.shrink(&mut Effort::background()) {}
    }

    /// Brings a client whose quota was changed within it, as far as it can be;
    /// whether there is more to do.
    pub(super) fn shrink(&self, effort: &mut Effort) -> bool {
        if !self.shrinks.swap(false, Relaxed) {
            return false;
        }
        while self.budget.is_beyond_quota() {
            if !effort.is_left() || !effort.may_compress() {
                self.shrinks.store(true, Relaxed);
                return true;
            }
            if !self.compress_now(effort, true) && !self.make_own_room(effort) {
                // Unless the effort has just ended, what is left has to stay.
                if effort.is_left() && effort.may_compress() {
                    return false;
                }
            }
        }
        false
    }
}

/// Compresses pages while some are deferred: one whose put is about to end is not found yet.
/// Whether any were found.
pub(super) fn compress_while(
    effort: &mut Effort,
    deferred: impl Fn() -> bool,
    compress_now: impl Fn() -> u64,
) -> bool {
    const LOOKS: u32 = 64;
    for _ in 0..LOOKS {
        if !deferred() {
            return false;
        }
        if !effort.may_compress() {
            break;
        }
        let pages = compress_now();
        effort.compressed(pages);
        if pages > 0 {
            return true;
        }
        if !effort.look() {
            break;
        }
        crate::sync::thread::yield_now();
    }
    effort.held_up();
    false
}
