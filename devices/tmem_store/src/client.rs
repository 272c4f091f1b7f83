// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Clients: the unit of isolation, accounting and quotas.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{ClientConfig, PoolConfig};
use crate::pool::Pool;
use crate::stats::ClientStats;
use crate::store::Shared;
use crate::types::{Created, PAGE_SIZE, PoolError};

/// State shared by a client and its pools.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) shared: Arc<Shared>,
    pub(crate) quota: AtomicU64,
    pub(crate) held: AtomicU64,
    pub(crate) frozen: AtomicBool,
    pub(crate) stats: Mutex<ClientStats>,
}

impl Account {
    pub(crate) fn stats(&self) -> MutexGuard<'_, ClientStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client of the store: a VM. Dropping it destroys its pools and gives
/// their memory back.
#[derive(Debug)]
pub struct Client {
    account: Arc<Account>,
    max_pools: u32,
    pools: Mutex<BTreeMap<u32, Arc<Pool>>>,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, config: ClientConfig) -> Self {
        shared.clients.fetch_add(1, Relaxed);
        Self {
            account: Arc::new(Account {
                shared,
                quota: AtomicU64::new(config.quota),
                held: AtomicU64::new(0),
                frozen: AtomicBool::new(false),
                stats: Mutex::new(ClientStats {
                    name: config.name,
                    ..ClientStats::default()
                }),
            }),
            max_pools: config.max_pools,
            pools: Mutex::default(),
        }
    }

    fn pools(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the pool `id`, or finds it if it is there and of this kind.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn create_pool(&self, id: u32, config: PoolConfig) -> Result<Created, PoolError> {
        if id >= self.max_pools {
            return Err(PoolError::TooMany);
        }
        let mut pools = self.pools();
        if let Some(pool) = pools.get(&id) {
            return if pool.kind() == config.kind {
                Ok(Created::Existing)
            } else {
                Err(PoolError::Conflict)
            };
        }
        pools.insert(id, Arc::new(Pool::new(self.account.clone(), config)));
        Ok(Created::New)
    }

    /// Removes the pool `id` and its pages; the number of pages, or `None` if
    /// there is no such pool.
    pub fn destroy_pool(&self, id: u32) -> Option<u64> {
        let pool = self.pools().remove(&id)?;
        Some(pool.destroy())
    }

    /// The pool `id`. To be looked up once per request.
    pub fn pool(&self, id: u32) -> Option<Arc<Pool>> {
        self.pools().get(&id).cloned()
    }

    /// What the client holds and did.
    pub fn stats(&self) -> ClientStats {
        let pools = self.pools().len() as u64;
        let mut stats = self.account.stats().clone();
        stats.quota_bytes = self.account.quota.load(Relaxed);
        stats.held_bytes = self.account.held.load(Relaxed);
        stats.frozen = self.account.frozen.load(Relaxed);
        stats.pools = pools;
        stats
    }

    /// Changes the quota. A client above a lowered quota keeps its persistent
    /// pages; its puts of new pages are refused until it is below again.
    pub fn set_quota(&self, bytes: u64) {
        self.account.quota.store(bytes, Relaxed);
    }

    /// Freezes or thaws: a frozen client's puts of new pages are refused;
    /// duplicate puts, gets and flushes work.
    pub fn set_frozen(&self, frozen: bool) {
        self.account.frozen.store(frozen, Relaxed);
    }

    /// Whether a put of a new persistent page would be refused now. A hint:
    /// it may be outdated when it is read.
    pub fn is_full(&self) -> bool {
        let account = &self.account;
        let page = PAGE_SIZE as u64;
        account.frozen.load(Relaxed)
            || account.held.load(Relaxed).saturating_add(page) > account.quota.load(Relaxed)
            || account.shared.held.load(Relaxed).saturating_add(page) > account.shared.limit
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for (_, pool) in std::mem::take(&mut *self.pools()) {
            pool.destroy();
        }
        self.account.shared.clients.fetch_sub(1, Relaxed);
    }
}
