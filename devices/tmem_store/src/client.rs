// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Clients: the unit of isolation, accounting and quotas.

use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
use crate::sync::{Arc, PoisonError, RwLock};

use crate::base::{Base, Layer};
use crate::budget::Shortage;
use crate::config::{Compression, PoolConfig};
use crate::handle::Pool;
use crate::pool::Pages;
use crate::reclaim::{Effort, Member, Request};
use crate::stats::ClientStats;
use crate::tier::PoolTag;
use crate::types::{Created, Identity, PoolError, PoolKind};

/// A client of the store: a VM. Dropping it destroys its pools and gives
/// their memory back.
#[derive(Debug)]
pub struct Client {
    /// What it is in the store. Another one when it is cloned, or is made a clone.
    layer: RwLock<Layer>,
    /// None, once it has left.
    max_pools: AtomicU32,
    /// Its pages are a base's.
    is_base: bool,
}

impl Client {
    pub(crate) fn member(&self) -> Arc<Member> {
        self.layer(|layer| layer.member.clone())
    }

    pub(crate) fn layer<T>(&self, look: impl FnOnce(&Layer) -> T) -> T {
        look(&self.layer.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has it be another one in the store, and gives what it was.
    pub(crate) fn set_layer(&self, layer: Layer) -> Layer {
        let mut current = self.layer.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, layer)
    }

    /// What the client's pages are over, if it was cloned or is a clone: the next base first.
    pub fn bases(&self) -> Vec<Arc<Base>> {
        let first = self.layer(|layer| layer.base.clone());
        std::iter::successors(first, |base| base.below().cloned()).collect()
    }

    /// What it was is a base from now on, and it is no client.
    pub(crate) fn into_base(mut self) -> Arc<Base> {
        // It leaves with the base.
        self.is_base = true;
        self.layer(Base::left)
    }

    /// By what the store knows its pages.
    pub fn identity(&self) -> Identity {
        self.member().budget.identity
    }

    pub(crate) fn max_pools(&self) -> u32 {
        self.max_pools.load(Relaxed)
    }

    pub(crate) fn new(layer: Layer, max_pools: u32) -> Self {
        Self {
            layer: RwLock::new(layer),
            max_pools: AtomicU32::new(max_pools.min(PoolTag::MOST)),
            is_base: false,
        }
    }

    /// Destroys all pools and leaves the store, as when this is dropped: another client may have
    /// its identity from now on, however long this one is still referred to. No pool can be made
    /// any more.
    pub fn leave(&self) {
        let member = self.member();
        {
            let _pools = member.pools_mut();
            self.max_pools.store(0, Relaxed);
        }
        member.end();
        let mut layer = self.layer.write().unwrap_or_else(PoisonError::into_inner);
        let base = layer.base.take();
        drop(layer);
        // Its pages go with the last client that has them.
        drop(base);
    }

    /// Makes the pool `id`, or finds it if it is there and of this kind. A
    /// pool that is found keeps the quota that it was made with.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn create_pool(&self, id: u32, config: PoolConfig) -> Result<Created, PoolError> {
        let member = self.member();
        let mut creation = Creation {
            client: self,
            member: &member,
            id,
            config,
        };
        let created = member.retry(&mut creation, &mut Effort::one());
        created.unwrap_or(Err(PoolError::NoMemory))
    }

    /// Makes a pool that an earlier store has made.
    pub(crate) fn adopt_pool(&self, tag: PoolTag) -> Arc<Pages> {
        self.layer(|layer| layer.adopt_pool(tag))
    }

    /// Removes the pool `id` and its pages; the number of pages, or `None` if
    /// there is no such pool.
    pub fn destroy_pool(&self, id: u32) -> Option<u64> {
        let member = self.member();
        if id > PoolTag::MOST {
            return None;
        }
        let pool = member.pools_mut().remove(&id)?;
        let pages = pool.destroy();
        // From now on nothing is seen that they would hide.
        let whiteouts = member.pools_mut().remove(&PoolTag::hiding(id));
        if let Some(whiteouts) = whiteouts {
            whiteouts.destroy();
        }
        Some(pages)
    }

    /// The numbers and kinds of all pools, in the order of their numbers.
    pub fn pools(&self) -> Vec<(u32, PoolKind)> {
        let pools = self.member().visible_pools().into_iter();
        pools.map(|(id, pool)| (id, pool.kind())).collect()
    }

    /// The pool `id`. To be looked up once per request.
    pub fn pool(&self, id: u32) -> Option<Pool> {
        let member = self.member();
        let pages = member.pool(id).filter(|_| id <= PoolTag::MOST)?;
        Some(Pool::new(member, pages))
    }

    /// The pages of the pool `id`.
    pub(crate) fn pages(&self, id: u32) -> Option<Arc<Pages>> {
        self.member().pool(id)
    }

    /// What the client holds and did.
    pub fn stats(&self) -> ClientStats {
        let member = self.member();
        let budget = &member.budget;
        let mut stats = ClientStats {
            name: budget.name.clone(),
            quota_bytes: budget.quota(),
            ephemeral_quota_bytes: budget.ephemeral.quota().min(budget.quota()),
            ephemeral_held_bytes: budget.ephemeral.held(),
            weight: budget.weight().into(),
            held_bytes: budget.held(),
            spilled_pages: budget.log.spilled_pages(),
            spilled_bytes: budget.log.spilled_bytes(),
            pools: self.pools().len() as u64,
            frozen: budget.is_frozen(),
            ..ClientStats::default()
        };
        budget.counters.fill(&mut stats);
        let [persistent, ephemeral] = budget.shared.pages();
        stats.shared_pages = persistent + ephemeral;
        stats.shared_bytes = budget.shared.bytes();
        stats.persistent_pages += persistent;
        stats.ephemeral_pages += ephemeral;
        stats
    }

    /// Changes the quota in bytes. Above a lowered quota the client loses
    /// ephemeral pages; it keeps its persistent pages, and its puts of new
    /// pages are refused until it is below again.
    pub fn set_quota(&self, bytes: u64) {
        self.member().change_quota(bytes);
    }

    /// Changes what the client's ephemeral pools may hold of the quota, entries and index;
    /// `None`: all of it. What is beyond is evicted, the oldest first.
    pub fn set_ephemeral_quota(&self, bytes: Option<u64>) {
        self.member()
            .change_ephemeral_quota(bytes.unwrap_or(u64::MAX));
    }

    /// Changes the weight: see [`ClientConfig::weight`](crate::ClientConfig::weight).
    /// Nothing is evicted before memory is short.
    pub fn set_weight(&self, weight: u32) {
        self.member().budget.set_weight(weight);
    }

    /// How pages are compressed that are put from now on, and whether those that are
    /// there are recompressed once they are cold.
    pub fn set_compression(&self, compression: Compression) {
        self.member().budget.set_compression(compression);
    }

    /// How pages are compressed.
    pub fn compression(&self) -> Compression {
        self.member().budget.compression()
    }

    /// Freezes or thaws: a frozen client's puts of new pages are refused;
    /// duplicate puts, gets and flushes work.
    pub fn set_frozen(&self, frozen: bool) {
        self.member().budget.set_frozen(frozen);
    }

    /// Evicts ephemeral pages, the oldest first, until `bytes` of what is held have come
    /// back or none is left. Returns how many went.
    pub fn evict(&self, bytes: u64) -> u64 {
        self.member().evict_bytes(bytes)
    }

    /// Whether a put of a new persistent page would be refused now. A hint:
    /// a page that compresses well may still find a place.
    pub fn is_full(&self) -> bool {
        self.member().is_full()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.is_base {
            self.leave();
        }
    }
}

/// A pool that is to be made.
struct Creation<'a> {
    client: &'a Client,
    member: &'a Member,
    id: u32,
    config: PoolConfig,
}

impl Request for Creation<'_> {
    type Done = Result<Created, PoolError>;

    fn run(&mut self) -> Result<Self::Done, Shortage> {
        let Self {
            client,
            member,
            id,
            config,
        } = self;
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
