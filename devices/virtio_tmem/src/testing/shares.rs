// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Shares as a host has them, without the host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tmem_store::{Client, ClientConfig, PoolConfig, PoolKind, Store};
use tmem_wire::ShareId;

use crate::device::{SharedPool, Shares, Verifier};

/// All shares of a host.
pub type HostShares = Arc<BTreeMap<ShareId, HostShare>>;

/// A share.
#[derive(Debug)]
pub struct HostShare {
    /// Has its pages in pool 0.
    pub client: Client,
    verifier: Option<Arc<Verifier>>,
}

/// Shares of these names, each of which may hold `quota` bytes.
pub fn host_shares(store: &Store, ids: &[ShareId], quota: u64) -> HostShares {
    shares(store, ids, quota, None)
}

/// Likewise verified ones, for an image with this salt.
pub fn verified_shares(store: &Store, ids: &[ShareId], quota: u64, salt: &[u8]) -> HostShares {
    shares(store, ids, quota, Some(Arc::new(Verifier::new(salt))))
}

fn shares(
    store: &Store,
    ids: &[ShareId],
    quota: u64,
    verifier: Option<Arc<Verifier>>,
) -> HostShares {
    let share = |id: &ShareId| {
        let config = ClientConfig::new("share", quota).with_max_pools(1);
        let client = store.add_client(config).expect("the store has room");
        let made = client.create_pool(0, PoolConfig::new(PoolKind::Ephemeral));
        made.expect("the store has room");
        let verifier = verifier.clone();
        (*id, HostShare { client, verifier })
    };
    Arc::new(ids.iter().map(share).collect())
}

/// Those that one VM may have.
#[derive(Debug)]
pub struct Allowed {
    host: HostShares,
    ids: Mutex<BTreeSet<ShareId>>,
}

impl Allowed {
    /// A VM that may have these.
    pub fn new(host: &HostShares, ids: &[ShareId]) -> Arc<Self> {
        Arc::new(Self {
            host: host.clone(),
            ids: Mutex::new(ids.iter().copied().collect()),
        })
    }

    /// Gives it a share.
    pub fn give(&self, id: ShareId) {
        self.ids.lock().unwrap().insert(id);
    }

    /// Takes a share from it; whether it had it.
    pub fn take(&self, id: &ShareId) -> bool {
        self.ids.lock().unwrap().remove(id)
    }
}

impl Shares for Allowed {
    fn pool(&self, id: &ShareId) -> Option<SharedPool> {
        let is_allowed = self.ids.lock().unwrap().contains(id);
        let share = self.host.get(id).filter(|_| is_allowed)?;
        Some(SharedPool {
            pool: share.client.pool(0)?,
            verifier: share.verifier.clone(),
        })
    }
}
