// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The store itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::client::Client;
use crate::config::{ClientConfig, StoreConfig};
use crate::stats::StoreStats;
use crate::types::Error;

/// State shared by the store's handles, clients and pools.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limit: u64,
    pub(crate) held: AtomicU64,
    pub(crate) clients: AtomicU64,
}

/// A store of pages for many clients. Cloning gives another handle to it.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

impl Store {
    /// Makes an empty store.
    ///
    /// # Errors
    /// When the limit is out of range or the system gives no page memory.
    pub fn new(config: StoreConfig) -> Result<Self, Error> {
        Ok(Self {
            shared: Arc::new(Shared {
                limit: config.memory_limit,
                held: AtomicU64::new(0),
                clients: AtomicU64::new(0),
            }),
        })
    }

    /// Adds a client without pools.
    ///
    /// # Errors
    /// When the store has no room for another client.
    pub fn add_client(&self, config: ClientConfig) -> Result<Client, Error> {
        Ok(Client::new(self.shared.clone(), config))
    }

    /// What the store holds now.
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            memory_limit_bytes: self.shared.limit,
            held_bytes: self.shared.held.load(Relaxed),
            mapped_bytes: self.shared.held.load(Relaxed),
            clients: self.shared.clients.load(Relaxed),
            ..StoreStats::default()
        }
    }
}
