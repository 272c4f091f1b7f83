// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Making room: who gives up what, and how much of it one operation may do.
//!
//! An operation that finds no memory makes room itself, but only with a bounded
//! effort, and it never waits for a lock in a pool of another client: what others
//! keep in the store can't hold it up. What it leaves undone is the task of the
//! background thread.
//!
//! [`retry`] has the one loop of everything that needs memory: try, make room, try again.
//! [`member`] makes room within one client, and this module among all of them.

mod cleaner;
mod demote;
mod demotion;
mod effort;
mod member;
mod recompress;
mod retry;
mod sweep;

pub(crate) use effort::Effort;
pub(crate) use member::Member;
pub(crate) use recompress::Recompressor;
pub(crate) use retry::Request;

use crate::budget::StoreBudget;
use crate::stats::{Counters, SharedStats, StoreStats};
use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::tier::SEGMENT;
use crate::types::{Error, PoolKind};
use cleaner::Cleaned;

/// Free bytes that are to be had again once somebody found too few.
const ROOM: u64 = 4 * SEGMENT as u64;

/// Makes room in a store: knows all clients.
#[derive(Debug)]
pub(crate) struct Reclaimer {
    pub(crate) budget: Arc<StoreBudget>,
    members: RwLock<Vec<Arc<Member>>>,
    /// What clients did that are gone.
    gone: Counters,
    /// For who moves entries when there is no other room.
    reserve: Mutex<()>,
    /// A quota was changed.
    shrinks: AtomicBool,
    /// Somebody found too little room.
    wants_room: AtomicBool,
    pub(crate) recompressor: Recompressor,
    /// Clients of an earlier store may not be there yet.
    pub(crate) awaits_clients: AtomicBool,
}

impl Reclaimer {
    pub(crate) fn new(budget: Arc<StoreBudget>) -> Self {
        Self {
            budget,
            members: RwLock::default(),
            gone: Counters::default(),
            reserve: Mutex::new(()),
            shrinks: AtomicBool::new(false),
            wants_room: AtomicBool::new(false),
            recompressor: Recompressor::default(),
            awaits_clients: AtomicBool::new(false),
        }
    }

    pub(crate) fn members(&self) -> RwLockReadGuard<'_, Vec<Arc<Member>>> {
        self.members.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn members_mut(&self) -> RwLockWriteGuard<'_, Vec<Arc<Member>>> {
        self.members.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The members, one by one, without their list being locked meanwhile. Some
    /// may be missed if others come or go.
    fn each_member(&self) -> impl Iterator<Item = Arc<Member>> {
        (0..).map_while(|nth| self.members().get(nth).cloned())
    }

    /// Has a client be one of those that share the memory.
    ///
    /// # Errors
    /// There are too many, or one has its identity.
    pub(crate) fn add(&self, member: &Arc<Member>) -> Result<(), Error> {
        /// Bounds the search for a client that can give pages up.
        const MOST: usize = 1 << 16;
        let mut members = self.members_mut();
        if members.len() >= MOST {
            return Err(Error::TooManyClients { clients: MOST });
        }
        let identity = member.budget.identity;
        if members
            .iter()
            .any(|other| other.budget.identity == identity)
        {
            return Err(Error::IdentityTaken);
        }
        members.push(member.clone());
        Ok(())
    }

    /// Forgets a client whose pools are gone.
    pub(crate) fn remove(&self, member: &Arc<Member>) {
        let mut members = self.members_mut();
        let before = members.len();
        members.retain(|other| !Arc::ptr_eq(other, member));
        if members.len() < before {
            member.budget.counters.bequeath(&self.gone);
        }
    }

    /// What all clients hold and did, those that are gone included.
    pub(crate) fn stats(&self) -> StoreStats {
        let members = self.members();
        let mut stats = StoreStats {
            memory_limit_bytes: self.budget.most(),
            held_bytes: self.budget.held(),
            mapped_bytes: self.budget.arena.backed_bytes().unwrap_or(0),
            clients: members.len() as u64,
            ..StoreStats::default()
        };
        for member in members.iter() {
            stats.spilled_pages += member.budget.log.spilled_pages();
            stats.spilled_bytes += member.budget.log.spilled_bytes();
        }
        if let Some(spill) = &self.budget.arena.spill {
            [stats.spill_size_bytes, stats.spill_free_bytes] = spill.bytes();
        }
        let counted = members.iter().map(|member| &member.budget.counters);
        for counters in counted.chain([&self.gone]) {
            counters.add_to(&mut stats);
        }
        stats
    }

    /// See [`Store::shared_stats`](crate::Store::shared_stats).
    pub(crate) fn shared_stats(&self) -> Option<SharedStats> {
        let members = self.members();
        let mut bases = members
            .iter()
            .filter(|member| member.is_base.load(Relaxed))
            .peekable();
        bases.peek()?;
        let mut sum = SharedStats::default();
        for base in bases {
            let counters = &base.budget.counters;
            let pages = counters.persistent_pages.get() + counters.ephemeral_pages.get();
            let spilled = base.budget.log.spilled_pages();
            sum.memory_bytes += base.budget.memory();
            sum.memory_pages += pages.saturating_sub(spilled);
            sum.spilled_bytes += base.budget.log.spilled_bytes();
            sum.spilled_pages += spilled;
            sum.spill_read_pages += counters.spill_read_pages.get();
            sum.spill_read_microseconds += counters.spill_read_microseconds.get();
            sum.promoted_pages += counters.promoted_pages.get();
        }
        Some(sum)
    }

    /// Whether any client has ephemeral pages.
    fn can_evict(&self) -> bool {
        let members = self.members();
        members.iter().any(|member| member.budget.can_evict())
    }

    /// Compresses some deferred pages, those of `member` first; whether it is
    /// worth looking for memory again.
    fn compress_now(&self, member: &Member, effort: &mut Effort) -> bool {
        if member.compress_now(effort, true) {
            return true;
        }
        let patient = effort.is_patient();
        self.budget.has_deferred()
            && self
                .each_member()
                .any(|other| other.compress_now(effort, patient))
    }

    /// Makes room in the store for a put of `member` to a pool of `kind`;
    /// whether it is worth trying again.
    ///
    /// A client that holds more than its share (the limit, split by weight) loses
    /// its own ephemeral pages first. Else the client that holds most for its
    /// weight loses some; but nobody's pages make room for ephemeral pages of a
    /// client that holds more for its weight.
    fn make_room(&self, member: &Member, kind: PoolKind, effort: &mut Effort) -> bool {
        if self.trim()
            || member.clean_for_store(effort, true).is_memory()
            || self.clean_others(member, effort)
        {
            return true;
        }
        let members = self.members();
        let beyond = member.budget.memory() > share(self.budget.limit(), member, &members);
        let victim = heaviest(&members);
        drop(members);
        if beyond && member.evict(effort, true) > 0 {
            return true;
        }
        let Some(victim) = victim else {
            return false;
        };
        if kind == PoolKind::Ephemeral && member.budget.load() > victim.budget.load() {
            return member.evict(effort, true) > 0;
        }
        let (mut victim, mut evicted) = (Some(victim), false);
        while let Some(next) = victim.take() {
            let patient = effort.is_patient() || std::ptr::eq(member, Arc::as_ptr(&next));
            if !next.give_up(effort, patient) {
                break;
            }
            evicted = true;
            // Only whole segments help another client.
            if !self.budget.has_room() {
                // Others may have taken what came back: each time from who holds most then, or
                // one client would lose far more than its share.
                let may_take = |next: &Arc<Member>| {
                    kind == PoolKind::Persistent || next.budget.load() >= member.budget.load()
                };
                victim = heaviest(&self.members()).filter(may_take);
            }
        }
        if !self.budget.has_room() {
            self.want_room();
        }
        evicted
    }

    /// Cleans a segment of other clients; whether it is worth looking for memory
    /// again. Nobody's pages go while somebody's dead bytes are left.
    fn clean_others(&self, member: &Member, effort: &mut Effort) -> bool {
        let patient = effort.is_patient();
        let mut busy = false;
        for other in self.each_member() {
            let is_own = std::ptr::eq(member, Arc::as_ptr(&other));
            if is_own || other.budget.log.dead_bytes() < SEGMENT as u64 {
                continue;
            }
            match other.clean_for_store(effort, patient) {
                Cleaned::Memory => return true,
                Cleaned::Busy => busy = true,
                Cleaned::Nothing => {}
            }
        }
        // What is being cleaned comes back soon.
        busy && effort.wait()
    }

    /// Gives segments without pages back; whether there was any.
    fn trim(&self) -> bool {
        let members = self.members();
        members
            .iter()
            .fold(false, |any, other| other.budget.trim() | any)
    }

    /// Gives segments back that were kept for deferred pages and not needed for a while; whether
    /// there are others.
    pub(crate) fn drop_unneeded(&self) -> bool {
        self.each_member()
            .fold(false, |any, member| member.budget.drop_unneeded() | any)
    }

    /// Gives all segments back that were kept for deferred pages.
    pub(crate) fn drop_spare(&self) {
        for member in self.each_member() {
            member.budget.drop_all_spare();
        }
    }

    /// Holds at most `bytes` for now: evicts some pages at once, and has the background
    /// thread evict the others. Whether there are others.
    pub(crate) fn limit_for_now(&self, bytes: u64) -> bool {
        self.budget.set_limit(bytes);
        if self.budget.has_room() {
            return false;
        }
        self.want_room();
        self.evict_some(&mut Effort::run());
        !self.budget.has_room() && self.can_evict()
    }

    /// Has the background thread make room: somebody found too little.
    fn want_room(&self) {
        self.wants_room.store(true, Relaxed);
        self.budget.wake_up.wake();
    }

    /// A piece of what an operation must not do itself: brings clients within
    /// lowered quotas, and makes room where somebody found too little. Whether
    /// there is more to do.
    pub(crate) fn reclaim_some(&self) -> bool {
        let mut effort = Effort::background();
        if self.shrinks.swap(false, Relaxed) {
            for member in self.each_member() {
                if member.shrink(&mut effort) {
                    self.shrinks.store(true, Relaxed);
                    return true;
                }
            }
        }
        if !self.wants_room.load(Relaxed) {
            return self.demote_unless_others_do();
        }
        let is_unfinished = self.evict_some(&mut effort);
        self.wants_room.store(is_unfinished, Relaxed);
        is_unfinished
    }

    /// Compresses up to `pages` deferred pages of the pool that has most of
    /// them, and returns how many it looked at.
    pub(crate) fn compress_some(&self, pages: u64) -> u64 {
        let mut most = None;
        for member in self.members().iter() {
            for pool in member.pools().values() {
                let deferred = pool.deferred();
                if deferred > most.as_ref().map_or(0, |(deferred, _)| *deferred) {
                    most = Some((deferred, pool.clone()));
                }
            }
        }
        // No lock is held by now: others come and go while it compresses.
        most.map_or(0, |(_, pool)| pool.compress_some(pages))
    }

    /// Evicts ephemeral pages until there is some room; whether effort ended first.
    fn evict_some(&self, effort: &mut Effort) -> bool {
        let patient = effort.is_patient();
        while !self.budget.has_room_for(ROOM) {
            let victim = heaviest(&self.members());
            let evicted = victim.is_some_and(|victim| victim.give_up(effort, patient));
            if !effort.is_left() {
                return true;
            }
            if !evicted {
                break;
            }
        }
        false
    }
}

/// Of the clients with ephemeral pages, the one that holds most for its weight.
fn heaviest(members: &[Arc<Member>]) -> Option<Arc<Member>> {
    let with_pages = members.iter().filter(|other| other.budget.can_evict());
    with_pages.max_by_key(|other| other.budget.load()).cloned()
}

/// The part of `limit` that is due to `member` among `all`. The weights are added up
/// each time, so those of clients that are gone can't be left in the sum.
fn share(limit: u64, member: &Member, all: &[Arc<Member>]) -> u64 {
    let sum: u128 = all
        .iter()
        .map(|other| u128::from(other.budget.weight()))
        .sum();
    let share = u128::from(limit) * u128::from(member.budget.weight()) / sum.max(1);
    u64::try_from(share).unwrap_or(limit)
}

#[cfg(test)]
mod tests;
