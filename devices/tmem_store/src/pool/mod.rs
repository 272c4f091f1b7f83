// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pools: put, get and flush. A put says what it is short of; who makes room is above.

mod adopt;
mod ahead;
mod below;
mod copy;
mod deferred;
mod flush;
mod get;
mod put;
mod run;
mod sweep;

pub(crate) use copy::Cursor;
pub(crate) use put::{Attempt, Older};

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use crate::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use crate::budget::{Budget, Shortage, charge};
use crate::index::{BLOCK_PAGES, Key, SHARDS, Seed, Shard, split};
use crate::tier::{Content, Entry, EntryRef, Location, Owner, Payload, PoolTag, Temperature};
use crate::types::PoolKind;
use below::Below;
use sweep::Viewers;

/// The pages of a pool: its index, and what they are charged to.
#[derive(Debug)]
pub(crate) struct Pages {
    budget: Arc<Budget>,
    tag: PoolTag,
    quota: u64,
    /// Bytes of entries and index.
    held: AtomicU64,
    /// Deferred pages.
    deferred: AtomicU64,
    seed: Seed,
    shards: [ShardLock; SHARDS],
    /// What it was made over.
    below: Option<Arc<Below>>,
    /// Who was made over it.
    viewers: Viewers,
}

#[derive(Debug)]
struct ShardLock {
    shard: RwLock<Shard>,
    /// Stamp of the oldest block; [`NONE`] if there is none. Written under
    /// the lock, read without it to find what to evict.
    oldest: AtomicU64,
    /// Whether pages are deferred. Written and read as `oldest`.
    deferred: AtomicBool,
}

/// The stamp of no block.
const NONE: u64 = u64::MAX;

/// A shard that is being changed, and the bytes that may be charged for it.
struct Change<'a> {
    pool: &'a Pages,
    shard: &'a mut Shard,
    /// Bytes charged beforehand.
    granted: u64,
    /// Why a charge was refused.
    shortage: Shortage,
}

impl Change<'_> {
    /// Removes page `nth` of a block.
    fn take(&mut self, key: &Key<'_>, nth: usize) -> Option<Content> {
        let old = self.shard.take(key, nth);
        self.buried(old)
    }

    /// What was removed, or replaced by what is published.
    fn buried(&self, old: Option<Content>) -> Option<Content> {
        old.inspect(|old| self.pool.budget.bury(old.view()))
    }
}

impl Pages {
    /// Bytes that an empty pool is charged with.
    pub(crate) const COST: u64 = (size_of::<Self>() + 64) as u64;

    /// A pool without pages, for which [`Pages::COST`] was charged.
    pub(crate) fn new(budget: Arc<Budget>, tag: PoolTag, quota: Option<u64>) -> Self {
        Self::seeded(budget, tag, quota, Seed::default())
    }

    /// A pool that has the pages of another one from the start, until it has others. `whiteouts` and
    /// `marks` are pools of the same client, for what is not seen of it.
    pub(crate) fn over(
        budget: Arc<Budget>,
        tag: PoolTag,
        quota: Option<u64>,
        pages: &Arc<Self>,
        (whiteouts, marks): (&Arc<Self>, &Arc<Self>),
    ) -> Self {
        let below = Below::new(pages.clone(), whiteouts.clone(), marks.clone());
        Self {
            below: Some(below),
            // One key does for both.
            ..Self::seeded(budget, tag, quota, pages.seed.clone())
        }
    }

    /// A pool without pages, for what is not seen of `pages`.
    pub(crate) fn hiding(budget: Arc<Budget>, tag: PoolTag, pages: &Self) -> Self {
        Self::seeded(budget, tag, None, pages.seed.clone())
    }

    fn seeded(budget: Arc<Budget>, tag: PoolTag, quota: Option<u64>, seed: Seed) -> Self {
        let ages = tag.kind() == PoolKind::Ephemeral;
        let shards = std::array::from_fn(|_| ShardLock {
            shard: RwLock::new(Shard::new(seed.clone(), ages)),
            oldest: AtomicU64::new(NONE),
            deferred: AtomicBool::new(false),
        });
        Self {
            budget,
            tag,
            quota: quota.unwrap_or(u64::MAX),
            held: AtomicU64::new(0),
            deferred: AtomicU64::new(0),
            seed,
            shards,
            below: None,
            viewers: Viewers::default(),
        }
    }

    /// Most bytes that it may hold, if there is a limit.
    pub(crate) fn quota(&self) -> Option<u64> {
        (self.quota < u64::MAX).then_some(self.quota)
    }

    /// What the pool promises about its pages.
    pub(crate) fn kind(&self) -> PoolKind {
        self.tag.kind()
    }

    /// Now, for a block that a page is put to.
    fn stamp(&self) -> u64 {
        match self.kind() {
            PoolKind::Persistent => 0,
            PoolKind::Ephemeral => self.budget.tick(),
        }
    }

    /// Bytes that the store holds for the pool: entries of its pages and its
    /// index. Segments are shared by all pools of a client, so that the sum over
    /// its pools is less than what the client holds.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Charges the pool, then the client and the store.
    fn charge(&self, bytes: u64) -> Result<(), Shortage> {
        self.charge_self(bytes)?;
        self.budget
            .charge(bytes)
            .inspect_err(|_| self.credit_self(bytes))
    }

    /// Charges the pool, and the client's pools of its kind.
    fn charge_self(&self, bytes: u64) -> Result<(), Shortage> {
        if !charge(&self.held, self.quota, bytes) {
            return Err(Shortage::Pool);
        }
        if self.kind() == PoolKind::Ephemeral && !self.budget.ephemeral.charge(bytes) {
            self.held.fetch_sub(bytes, Relaxed);
            return Err(Shortage::Kind);
        }
        Ok(())
    }

    /// What is held counts, whatever the quota.
    fn charge_self_anyway(&self, bytes: u64) {
        self.held.fetch_add(bytes, Relaxed);
        if self.kind() == PoolKind::Ephemeral {
            self.budget.ephemeral.charge_anyway(bytes);
        }
    }

    fn credit_self(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
        if self.kind() == PoolKind::Ephemeral {
            self.budget.ephemeral.credit(bytes);
        }
    }

    /// Gives the memory of a page back that was counted as kept.
    fn free(&self, content: Content) {
        if self.tag.is_visible() {
            self.budget.counters.dropped(self.kind(), &content);
        }
        if let Content::Deferred(_) = &content {
            self.deferred.fetch_sub(1, Relaxed);
        }
        self.credit_self(content.entry().footprint() as u64);
        self.budget.free(content);
    }

    /// The lock of shard `nth`, which is below [`SHARDS`].
    fn lock(&self, nth: usize) -> &ShardLock {
        let [first, ..] = &self.shards;
        self.shards.get(nth).unwrap_or(first)
    }

    fn shard(&self, nth: usize) -> RwLockReadGuard<'_, Shard> {
        let shard = &self.lock(nth).shard;
        shard.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` on a shard under its lock, and charges or credits the
    /// bytes by which its index grew or shrank.
    fn change<T>(&self, nth: usize, change: impl FnOnce(&mut Change<'_>) -> T) -> T {
        let shard = self.lock(nth).shard.write();
        self.change_locked(nth, shard.unwrap_or_else(PoisonError::into_inner), change)
    }

    /// As [`Pool::change`]; `None` if the shard's lock is not free and the caller is not
    /// `patient`.
    fn change_if<T>(
        &self,
        nth: usize,
        patient: bool,
        change: impl FnOnce(&mut Change<'_>) -> T,
    ) -> Option<T> {
        if patient {
            return Some(self.change(nth, change));
        }
        let shard = match self.lock(nth).shard.try_write() {
            Ok(shard) => shard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(self.change_locked(nth, shard, change))
    }

    fn change_locked<T>(
        &self,
        nth: usize,
        mut shard: RwLockWriteGuard<'_, Shard>,
        change: impl FnOnce(&mut Change<'_>) -> T,
    ) -> T {
        let lock = self.lock(nth);
        let before = shard.bytes();
        let mut under_way = Change {
            pool: self,
            shard: &mut shard,
            granted: 0,
            shortage: Shortage::System,
        };
        let result = change(&mut under_way);
        let charged = before + under_way.granted;
        let after = shard.bytes();
        if after < charged {
            self.credit_self(charged - after);
            self.budget.credit(charged - after);
        } else if after > charged {
            // The estimate was too low.
            self.charge_self_anyway(after - charged);
            self.budget.charge_anyway(after - charged);
        }
        lock.deferred.store(shard.has_deferred(), Relaxed);
        if self.kind() == PoolKind::Ephemeral {
            lock.oldest.store(shard.oldest().unwrap_or(NONE), Relaxed);
        }
        result
    }

    pub(crate) fn tag(&self) -> PoolTag {
        self.tag
    }

    /// To whom page `nth` of a block belongs.
    fn owner<'a>(&self, key: &Key<'a>, nth: usize) -> Owner<'a> {
        Owner {
            pool: self.tag,
            object: key.object,
            index: key.block * BLOCK_PAGES + nth as u64,
        }
    }

    /// Keeps `new`, a copy of it, instead of the entry at `old` of a page, or returns
    /// it if that is not kept any more, or if the shard's lock is not free and the caller is
    /// not `patient`.
    pub(crate) fn move_entry(
        &self,
        owner: &Owner<'_>,
        old: Location,
        new: Entry,
        patient: bool,
    ) -> Result<(), Entry> {
        let (block, nth) = split(owner.index);
        let key = Key::new(&self.seed, owner.object, block);
        let bytes = new.footprint() as u64;
        let more = bytes.saturating_sub(old.footprint() as u64);
        if more > 0 && self.charge_self(more).is_err() {
            return Err(new);
        }
        let counters = self.tag.is_visible().then_some(&self.budget.counters);
        if let Some(counters) = counters {
            counters.kept_as(&new);
        }
        let mut new = Some(new);
        let moved = self.change_if(key.shard(), patient, |change| {
            let new = new.take()?;
            let moved = change.shard.move_entry(&key, nth, old, new, |new| {
                self.budget.publish(new);
            });
            Some(moved.inspect(|old| self.budget.bury(EntryRef::of(old))))
        });
        let new = match (moved.flatten(), new) {
            (Some(Ok(old)), _) => {
                let less = (old.footprint() as u64).saturating_sub(bytes);
                self.credit_self(less);
                if let Some(counters) = counters {
                    counters.no_longer_as(&old);
                }
                self.budget.free_entry(old);
                return Ok(());
            }
            (Some(Err(new)), _) | (None, Some(new)) => new,
            (None, None) => return Ok(()),
        };
        self.credit_self(more);
        if let Some(counters) = counters {
            counters.no_longer_as(&new);
        }
        Err(new)
    }

    /// Keeps `payload` in a new place in memory instead of the entry at `old` of a page, as
    /// [`Pages::move_entry`] does; `charge` is asked for the memory that it takes. Bytes of the new
    /// entry, 0 if it is not kept.
    pub(crate) fn append_instead(
        &self,
        temperature: Temperature,
        owner: &Owner<'_>,
        (old, payload): (Location, Payload<'_>),
        patient: bool,
        charge: impl FnMut(u64) -> Result<(), Shortage>,
    ) -> Result<u64, Shortage> {
        let new = self.budget.append(temperature, owner, payload, charge)?;
        let bytes = new.footprint() as u64;
        match self.move_entry(owner, old, new, patient) {
            Ok(()) => Ok(bytes),
            Err(new) => {
                self.budget.free_entry(new);
                Ok(0)
            }
        }
    }

    /// Whether the entry at `location` is what is kept of a page, and was used since this
    /// was last asked.
    pub(crate) fn was_used(&self, owner: &Owner<'_>, location: Location) -> Option<bool> {
        let (block, nth) = split(owner.index);
        let key = Key::new(&self.seed, owner.object, block);
        self.shard(key.shard()).was_used(&key, nth, location)
    }

    /// Stamp and shard of what is oldest in the pool.
    pub(crate) fn oldest(&self) -> Option<(u64, usize)> {
        let stamps = self.shards.iter().map(|lock| lock.oldest.load(Relaxed));
        let oldest = stamps.zip(0..).min()?;
        (oldest.0 != NONE).then_some(oldest)
    }

    /// Evicts the oldest block of a shard and returns how many pages it had;
    /// with `spare_used`, perhaps none (see [`Shard::evict`]). Who is not
    /// `patient` takes another shard if the lock of this one is not free; `None`
    /// if no lock is.
    pub(crate) fn evict(&self, shard: usize, spare_used: bool, patient: bool) -> Option<u64> {
        let evict = |nth| {
            let stamp = self.budget.tick();
            let pages = self.change_if(nth, patient, |change| {
                let free = &mut |content| self.free(content);
                change.shard.evict(stamp, spare_used, free)
            })?;
            self.budget.counters.evicted_pages.add(pages);
            Some(pages)
        };
        let mut found = evict(shard);
        if found.is_none() {
            // One that has nothing to give up does not stand for all.
            for nth in (0..SHARDS).filter(|nth| *nth != shard) {
                found = evict(nth).or(found);
                if found.is_some_and(|pages| pages > 0) {
                    break;
                }
            }
        }
        found
    }

    /// Evicts a page if its entry is the one at `at`, unless the shard's lock is not free and the
    /// caller is not `patient`.
    pub(crate) fn evict_entry(&self, owner: &Owner<'_>, at: Location, patient: bool) {
        let (block, nth) = split(owner.index);
        let key = Key::new(&self.seed, owner.object, block);
        let old = self.change_if(key.shard(), patient, |change| {
            let is_there = change.shard.is_at(&key, nth, at);
            is_there.then(|| change.take(&key, nth)).flatten()
        });
        if let Some(old) = old.flatten() {
            self.free(old);
            self.budget.counters.evicted_pages.add(1);
        }
    }

    /// Empties the pool for good and returns how many pages it had.
    pub(crate) fn destroy(&self) -> u64 {
        let mut pages = self.cut_below();
        for lock in &self.shards {
            let mut shard = lock.shard.write().unwrap_or_else(PoisonError::into_inner);
            let old = shard.destroy();
            lock.oldest.store(NONE, Relaxed);
            lock.deferred.store(false, Relaxed);
            drop(shard);
            let bytes = old.bytes();
            pages += old.into_pages(&mut |content| self.free(content));
            self.credit_self(bytes);
            self.budget.credit(bytes);
        }
        self.budget.credit(Self::COST);
        if self.tag.is_visible() {
            self.budget.counters.destroyed_pages.add(pages);
        }
        pages
    }
}

#[cfg(test)]
mod tests;
