// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page memory that outlives its store: the index is made anew from what is there.
//!
//! What is there says whose it is ([`crate::tier`] has the layout). Nothing of it is
//! believed that is not as it was written: then the client it belongs to has lost
//! its pages, all of them, and its driver is to be told so.

mod rebuild;
mod save;
mod threads;

pub use save::{RestoreError, Restored, SAVED_SEGMENT, Save};

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use crate::base::{Base, Layer};
use crate::client::Client;
use crate::config::{ClientConfig, StoreConfig};
use crate::store::Store;
use crate::sync::Arc;
use crate::tier::{Left, PageMemory};
use crate::types::{Error, Identity};
use rebuild::{Plan, rebuild};

/// A store that is made from the page memory of an earlier one, until all clients that
/// are still served have their pages again.
///
/// What nobody has claimed by [`Recovery::client`] is freed when this is dropped.
#[derive(Debug)]
pub struct Recovery {
    store: Store,
    left: BTreeMap<Identity, Vec<Left>>,
    plan: Plan,
}

impl Store {
    /// Takes over the page memory of a store that is no more, whenever and however it
    /// has ended.
    ///
    /// # Errors
    /// As [`Store::new`]; and [`Error::Damaged`] when the file is not page memory as a store has
    /// left it, or [`Error::OtherVersion`] when that store had another layout.
    pub fn recover(memory: PageMemory, config: StoreConfig) -> Result<Recovery, Error> {
        let (store, segments) = Self::over(memory, config)?;
        let mut left: BTreeMap<Identity, Vec<Left>> = BTreeMap::new();
        for segment in segments {
            left.entry(segment.identity()).or_default().push(segment);
        }
        let plan = Plan::of_system();
        store.awaits_clients(true);
        Ok(Recovery { store, left, plan })
    }

    /// The file behind all page memory. It says of each page whose it is, so that a
    /// later store can be made from it: see [`Store::recover`].
    pub fn page_memory(&self) -> BorrowedFd<'_> {
        self.arena().file()
    }
}

impl Recovery {
    /// The store, which may be used meanwhile.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The clients that had pages and were not yet claimed.
    pub fn identities(&self) -> impl Iterator<Item = Identity> {
        self.left.keys().copied()
    }

    /// Whether a client with this identity had pages and was not yet claimed.
    pub fn has(&self, identity: Identity) -> bool {
        self.left.contains_key(&identity)
    }

    /// Adds a client that has the pools and pages of the one with this identity. Pools
    /// without pages are forgotten, and so are quotas of pools. The client may hold
    /// more than its quota, as if that had been lowered.
    ///
    /// Reads all memory of the client, with a thread for each CPU that this process may use.
    ///
    /// What cannot be read in the spill area is lost, a segment at a time:
    /// [`ClientStats::spill_read_errors`](crate::ClientStats::spill_read_errors) says how many.
    ///
    /// # Errors
    /// As [`Store::add_client`]; and [`Error::Damaged`] when anything that the client
    /// had in memory is not as it was written. All of it is freed then.
    pub fn client(&mut self, identity: Identity, config: ClientConfig) -> Result<Client, Error> {
        self.client_over(identity, config, None)
    }

    /// As [`Recovery::client`], of a client that went on over a base: see
    /// [`Client::to_base`]. Pools of the base that it had not given up are there, too.
    ///
    /// # Errors
    /// As [`Recovery::client`].
    pub fn client_over(
        &mut self,
        identity: Identity,
        config: ClientConfig,
        base: Option<&Arc<Base>>,
    ) -> Result<Client, Error> {
        let quota = config.quota;
        let config = config.with_identity(identity);
        let client = self.store.add_client_over(config, base.cloned())?;
        let segments = self.left.remove(&identity).unwrap_or_default();
        if !rebuild(&client, segments, self.plan) {
            return Err(Error::Damaged);
        }
        client.layer(Layer::make_other_pools);
        client.set_quota(quota);
        Ok(client)
    }

    /// The base with this identity, which may be over another one. It goes with the last client that is
    /// over it, and this handle.
    ///
    /// # Errors
    /// As [`Recovery::client`].
    pub fn base(
        &mut self,
        identity: Identity,
        below: Option<&Arc<Base>>,
    ) -> Result<Arc<Base>, Error> {
        let config = ClientConfig {
            max_pools: u32::MAX,
            ..ClientConfig::new("base", u64::MAX)
        };
        let client = self.client_over(identity, config, below)?;
        Ok(client.into_base())
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        for segments in std::mem::take(&mut self.left).into_values() {
            free(&self.store, segments);
        }
        self.store.awaits_clients(false);
    }
}

fn free(store: &Store, segments: Vec<Left>) {
    for segment in segments {
        store.arena().discard(segment);
    }
}

#[cfg(test)]
mod tests;
