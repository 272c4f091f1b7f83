// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Clients: the unit of isolation, accounting and quotas.

use crate::sync::Arc;
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::budget::Shortage;
use crate::config::{Compression, PoolConfig};
use crate::handle::Pool;
use crate::pool::Pages;
use crate::reclaim::{Effort, Member, Request};
use crate::stats::ClientStats;
use crate::tier::PoolTag;
use crate::types::{Created, PoolError, PoolKind};

/// A client of the store: a VM. Dropping it destroys its pools and gives
/// their memory back.
#[derive(Debug)]
pub struct Client {
    member: Arc<Member>,
    /// None, once it has left.
    max_pools: AtomicU32,
}

impl Client {
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    pub(crate) fn max_pools(&self) -> u32 {
        self.max_pools.load(Relaxed)
    }

    pub(crate) fn new(member: Arc<Member>, max_pools: u32) -> Self {
        Self {
            member,
            max_pools: AtomicU32::new(max_pools),
        }
    }

    /// Destroys all pools and leaves the store, as when this is dropped: another client may have
    /// its identity from now on, however long this one is still referred to. No pool can be made
    /// any more.
    pub fn leave(&self) {
        // The lock is not held while pools are destroyed.
        let pools = {
            let mut pools = self.member.pools_mut();
            self.max_pools.store(0, Relaxed);
            std::mem::take(&mut *pools)
        };
        for pool in pools.into_values() {
            pool.destroy();
        }
        self.member.leave();
    }

    /// Makes the pool `id`, or finds it if it is there and of this kind. A
    /// pool that is found keeps the quota that it was made with.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn create_pool(&self, id: u32, config: PoolConfig) -> Result<Created, PoolError> {
        let mut creation = Creation {
            client: self,
            id,
            config,
        };
        let created = self.member.retry(&mut creation, &mut Effort::one());
        created.unwrap_or(Err(PoolError::NoMemory))
    }

    /// Makes a pool that an earlier store has made.
    pub(crate) fn adopt_pool(&self, tag: PoolTag) -> Arc<Pages> {
        self.member.made_after(tag);
        let budget = &self.member.budget;
        budget.charge_anyway(Pages::COST);
        let pool = Arc::new(Pages::new(budget.clone(), tag, None));
        self.member.pools_mut().insert(tag.id(), pool.clone());
        pool
    }

    /// Removes the pool `id` and its pages; the number of pages, or `None` if
    /// there is no such pool.
    pub fn destroy_pool(&self, id: u32) -> Option<u64> {
        let pool = self.member.pools_mut().remove(&id)?;
        Some(pool.destroy())
    }

    /// The numbers and kinds of all pools, in the order of their numbers.
    pub fn pools(&self) -> Vec<(u32, PoolKind)> {
        let pools = self.member.pools();
        pools.iter().map(|(id, pool)| (*id, pool.kind())).collect()
    }

    /// The pool `id`. To be looked up once per request.
    pub fn pool(&self, id: u32) -> Option<Pool> {
        let pages = self.pages(id)?;
        Some(Pool::new(self.member.clone(), pages))
    }

    /// The pages of the pool `id`.
    pub(crate) fn pages(&self, id: u32) -> Option<Arc<Pages>> {
        self.member.pools().get(&id).cloned()
    }

    /// What the client holds and did.
    pub fn stats(&self) -> ClientStats {
        let mut stats = ClientStats {
            name: self.member.budget.name.clone(),
            quota_bytes: self.member.budget.quota(),
            ephemeral_quota_bytes: self.ephemeral_quota(),
            ephemeral_held_bytes: self.member.budget.ephemeral.held(),
            weight: self.member.budget.weight().into(),
            held_bytes: self.member.budget.held(),
            spilled_pages: self.member.budget.log.spilled_pages(),
            spilled_bytes: self.member.budget.log.spilled_bytes(),
            pools: self.member.pools().len() as u64,
            frozen: self.member.budget.is_frozen(),
            ..ClientStats::default()
        };
        self.member.budget.counters.fill(&mut stats);
        stats
    }

    /// What ephemeral pools may hold.
    fn ephemeral_quota(&self) -> u64 {
        let budget = &self.member.budget;
        budget.ephemeral.quota().min(budget.quota())
    }

    /// Changes the quota in bytes. Above a lowered quota the client loses
    /// ephemeral pages; it keeps its persistent pages, and its puts of new
    /// pages are refused until it is below again.
    pub fn set_quota(&self, bytes: u64) {
        self.member.change_quota(bytes);
    }

    /// Changes what the client's ephemeral pools may hold of the quota, entries and index;
    /// `None`: all of it. What is beyond is evicted, the oldest first.
    pub fn set_ephemeral_quota(&self, bytes: Option<u64>) {
        self.member
            .change_ephemeral_quota(bytes.unwrap_or(u64::MAX));
    }

    /// Changes the weight: see [`ClientConfig::weight`](crate::ClientConfig::weight).
    /// Nothing is evicted before memory is short.
    pub fn set_weight(&self, weight: u32) {
        self.member.budget.set_weight(weight);
    }

    /// How pages are compressed that are put from now on, and whether those that are
    /// there are recompressed once they are cold.
    pub fn set_compression(&self, compression: Compression) {
        self.member.budget.set_compression(compression);
    }

    /// How pages are compressed.
    pub fn compression(&self) -> Compression {
        self.member.budget.compression()
    }

    /// Freezes or thaws: a frozen client's puts of new pages are refused;
    /// duplicate puts, gets and flushes work.
    pub fn set_frozen(&self, frozen: bool) {
        self.member.budget.set_frozen(frozen);
    }

    /// Evicts ephemeral pages, the oldest first, until `bytes` of what is held have come
    /// back or none is left. Returns how many went.
    pub fn evict(&self, bytes: u64) -> u64 {
        self.member.evict_bytes(bytes)
    }

    /// Whether a put of a new persistent page would be refused now. A hint:
    /// a page that compresses well may still find a place.
    pub fn is_full(&self) -> bool {
        self.member.is_full()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A pool that is to be made.
struct Creation<'a> {
    client: &'a Client,
    id: u32,
    config: PoolConfig,
}

impl Request for Creation<'_> {
    type Done = Result<Created, PoolError>;

    fn run(&mut self) -> Result<Self::Done, Shortage> {
        let Self { client, id, config } = self;
        let member = &client.member;
        let mut pools = member.pools_mut();
        if *id >= client.max_pools() {
            return Ok(Err(PoolError::TooMany));
        }
        if let Some(pool) = pools.get(id) {
            let is_same = pool.kind() == config.kind;
            return Ok(is_same
                .then_some(Created::Existing)
                .ok_or(PoolError::Conflict));
        }
        member.budget.charge(Pages::COST)?;
        let tag = member.tag(*id, config.kind);
        let pool = Pages::new(member.budget.clone(), tag, config.quota);
        pools.insert(*id, Arc::new(pool));
        Ok(Ok(Created::New))
    }

    fn kind(&self) -> PoolKind {
        self.config.kind
    }
}
