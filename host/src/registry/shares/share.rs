// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A share.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use anyhow::{Context, Result};
use tmem_store::{Client, ClientConfig, ClientStats, PoolConfig, PoolKind, Store};
use virtio_tmem::device::{SharedPool, Verifier};

use super::super::name::Name;
use super::settings::{ShareSettings, Trust};

/// The one pool of a share.
const POOL: u32 = 0;

/// An ephemeral pool that several virtual machines have. What it holds is nobody's but its own.
#[derive(Debug)]
pub struct Share {
    name: Name,
    client: Client,
    /// Of a verified share.
    verifier: Option<Arc<Verifier>>,
    /// Read at each request of each machine.
    settings: RwLock<ShareSettings>,
}

impl Share {
    pub(super) fn new(store: &Store, name: Name, settings: ShareSettings) -> Result<Self> {
        let config = ClientConfig::new(name.as_str(), settings.quota).with_max_pools(POOL + 1);
        let client = store.add_client(config);
        let client = client.with_context(|| format!("cannot make the share '{name}'"))?;
        client
            .create_pool(POOL, PoolConfig::new(PoolKind::Ephemeral))
            .with_context(|| format!("cannot make the pool of the share '{name}'"))?;
        let verifier = match &settings.trust {
            Trust::Domain(_) => None,
            Trust::Verified(image) => Some(Arc::new(Verifier::new(&image.salt))),
        };
        Ok(Self {
            name,
            client,
            verifier,
            settings: RwLock::new(settings),
        })
    }

    /// Its name, which operators use.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Who may have it, and what it may hold.
    pub fn settings(&self) -> ShareSettings {
        self.read().clone()
    }

    /// What it holds and what was done with it.
    pub fn stats(&self) -> ClientStats {
        self.client.stats()
    }

    /// Evicts pages, the oldest first, until `bytes` have come back or none is left. Returns how many went.
    pub fn evict(&self, bytes: u64) -> u64 {
        self.client.evict(bytes)
    }

    pub(super) fn set(&self, settings: ShareSettings) {
        if settings.quota != self.read().quota {
            self.client.set_quota(settings.quota);
        }
        let mut ours = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *ours = settings;
    }

    /// Its pool, if the machine `vm` of the trust domain `domain`, or of none, may have it.
    pub(super) fn pool(&self, vm: &Name, domain: Option<&Name>) -> Option<SharedPool> {
        let is_allowed = {
            let settings = self.read();
            settings.trust.is_for(domain) && settings.vms.contains(vm)
        };
        Some(SharedPool {
            pool: is_allowed.then(|| self.client.pool(POOL)).flatten()?,
            verifier: self.verifier.clone(),
        })
    }

    /// Destroys it; who still refers to it finds nothing.
    pub(super) fn end(&self) {
        self.client.leave();
    }

    fn read(&self) -> RwLockReadGuard<'_, ShareSettings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }
}
