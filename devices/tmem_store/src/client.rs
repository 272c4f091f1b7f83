// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Clients: the unit of isolation, accounting and quotas.

use crate::sync::Arc;

use crate::account::Account;
use crate::config::{Compression, PoolConfig};
use crate::pool::Pool;
use crate::reclaim::Effort;
use crate::stats::ClientStats;
use crate::tier::PoolTag;
use crate::types::{Created, PoolError};

/// A client of the store: a VM. Dropping it destroys its pools and gives
/// their memory back.
#[derive(Debug)]
pub struct Client {
    account: Arc<Account>,
    max_pools: u32,
}

impl Client {
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    pub(crate) fn max_pools(&self) -> u32 {
        self.max_pools
    }

    pub(crate) fn new(account: Arc<Account>, max_pools: u32) -> Self {
        Self { account, max_pools }
    }

    /// Makes the pool `id`, or finds it if it is there and of this kind. A
    /// pool that is found keeps the quota that it was made with.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn create_pool(&self, id: u32, config: PoolConfig) -> Result<Created, PoolError> {
        if id >= self.max_pools {
            return Err(PoolError::TooMany);
        }
        let mut effort = Effort::one();
        loop {
            let mut pools = self.account.pools_mut();
            if let Some(pool) = pools.get(&id) {
                return if pool.kind() == config.kind {
                    Ok(Created::Existing)
                } else {
                    Err(PoolError::Conflict)
                };
            }
            let Err(shortage) = self.account.charge(Pool::COST) else {
                pools.insert(id, Arc::new(Pool::new(self.account.clone(), id, config)));
                return Ok(Created::New);
            };
            drop(pools);
            if !self.account.make_room(shortage, config.kind, &mut effort) {
                return Err(PoolError::NoMemory);
            }
        }
    }

    /// Makes a pool that an earlier store has made.
    pub(crate) fn adopt_pool(&self, tag: PoolTag) -> Arc<Pool> {
        self.account.made_after(tag);
        self.account.charge_anyway(Pool::COST);
        let pool = Arc::new(Pool::with_tag(self.account.clone(), tag, None));
        self.account.pools_mut().insert(tag.id(), pool.clone());
        pool
    }

    /// Removes the pool `id` and its pages; the number of pages, or `None` if
    /// there is no such pool.
    pub fn destroy_pool(&self, id: u32) -> Option<u64> {
        let pool = self.account.pools_mut().remove(&id)?;
        Some(pool.destroy())
    }

    /// The pool `id`. To be looked up once per request.
    pub fn pool(&self, id: u32) -> Option<Arc<Pool>> {
        self.account.pools().get(&id).cloned()
    }

    /// What the client holds and did.
    pub fn stats(&self) -> ClientStats {
        let mut stats = ClientStats {
            name: self.account.name.clone(),
            quota_bytes: self.account.quota(),
            weight: self.account.weight().into(),
            held_bytes: self.account.held(),
            pools: self.account.pools().len() as u64,
            frozen: self.account.is_frozen(),
            ..ClientStats::default()
        };
        self.account.counters.fill(&mut stats);
        stats
    }

    /// Changes the quota in bytes. Above a lowered quota the client loses
    /// ephemeral pages; it keeps its persistent pages, and its puts of new
    /// pages are refused until it is below again.
    pub fn set_quota(&self, bytes: u64) {
        self.account.change_quota(bytes);
    }

    /// Changes the weight: see [`ClientConfig::weight`](crate::ClientConfig::weight).
    /// Nothing is evicted before memory is short.
    pub fn set_weight(&self, weight: u32) {
        self.account.set_weight(weight);
    }

    /// How pages are compressed that are put from now on, and whether those that are
    /// there are recompressed once they are cold.
    pub fn set_compression(&self, compression: Compression) {
        self.account.set_compression(compression);
    }

    /// How pages are compressed.
    pub fn compression(&self) -> Compression {
        self.account.compression()
    }

    /// Freezes or thaws: a frozen client's puts of new pages are refused;
    /// duplicate puts, gets and flushes work.
    pub fn set_frozen(&self, frozen: bool) {
        self.account.set_frozen(frozen);
    }

    /// Evicts ephemeral pages, the oldest first, until `bytes` of what is held have come
    /// back or none is left. Returns how many went.
    pub fn evict(&self, bytes: u64) -> u64 {
        let account = &self.account;
        let goal = account.held().saturating_sub(bytes);
        // Others may put pages meanwhile.
        let most = account.counters.ephemeral_pages.get();
        let mut evicted = 0;
        while account.held() > goal {
            let mut effort = Effort::background();
            if account.trim() || account.clean(&mut effort, true).is_memory() {
                continue;
            }
            let pages = match evicted < most {
                true => account.evict(&mut effort, true),
                false => 0,
            };
            if pages == 0 {
                break;
            }
            evicted += pages;
        }
        evicted
    }

    /// Whether a put of a new persistent page would be refused now. A hint:
    /// a page that compresses well may still find a place.
    pub fn is_full(&self) -> bool {
        self.account.is_full()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The lock is not held while pools are destroyed.
        let pools = std::mem::take(&mut *self.account.pools_mut());
        for pool in pools.into_values() {
            pool.destroy();
        }
        self.account.shared.remove(&self.account);
    }
}
