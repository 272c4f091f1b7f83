// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page memory that outlives its store: the index is made anew from what is there.
//!
//! What is there says whose it is ([`crate::tier`] has the layout). Nothing of it is
//! believed that is not as it was written: then the client it belongs to has lost
//! its pages, all of them, and its driver is to be told so.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use crate::client::Client;
use crate::config::{ClientConfig, StoreConfig};
use crate::pool::Pages;
use crate::store::Store;
use crate::tier::{Content, Entry, Found, Left, PageMemory, SEGMENT};
use crate::types::{Error, Identity};

/// A store that is made from the page memory of an earlier one, until all clients that
/// are still served have their pages again.
///
/// What nobody has claimed by [`Recovery::client`] is freed when this is dropped.
#[derive(Debug)]
pub struct Recovery {
    store: Store,
    left: BTreeMap<Identity, Vec<Left>>,
}

impl Store {
    /// Takes over the page memory of a store that is no more, whenever and however it
    /// has ended.
    ///
    /// # Errors
    /// As [`Store::new`]; and [`Error::Damaged`] when the file is not the page memory
    /// of a store of this version.
    pub fn recover(memory: PageMemory, config: StoreConfig) -> Result<Recovery, Error> {
        let (store, segments) = Self::over(memory, config)?;
        let mut left: BTreeMap<Identity, Vec<Left>> = BTreeMap::new();
        for segment in segments {
            left.entry(segment.identity()).or_default().push(segment);
        }
        Ok(Recovery { store, left })
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

    /// Adds a client that has the pools and pages of the one with this identity. Pools
    /// without pages are forgotten, and so are quotas of pools. The client may hold
    /// more than its quota, as if that had been lowered.
    ///
    /// Reads all memory of the client: about a second for a few GiB.
    ///
    /// # Errors
    /// As [`Store::add_client`]; and [`Error::Damaged`] when anything that the client
    /// had is not as it was written. All of it is freed then.
    pub fn client(&mut self, identity: Identity, config: ClientConfig) -> Result<Client, Error> {
        let quota = config.quota;
        let config = ClientConfig {
            identity: Some(identity),
            ..config
        };
        let client = self.store.add_client(config)?;
        let mut segments = self.left.remove(&identity).unwrap_or_default();
        // What was appended later replaces what was there before.
        segments.sort_unstable_by_key(|segment| std::cmp::Reverse(segment.sequence()));
        let mut buffer = Box::new([0; SEGMENT]);
        while let Some(segment) = segments.pop() {
            if !adopt(&client, segment, &mut buffer) {
                free(&self.store, segments);
                return Err(Error::Damaged);
            }
        }
        client.set_quota(quota);
        Ok(client)
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        for segments in std::mem::take(&mut self.left).into_values() {
            free(&self.store, segments);
        }
    }
}

fn free(store: &Store, segments: Vec<Left>) {
    for segment in segments {
        store.arena().discard(segment);
    }
}

/// Has a client take over a segment; whether it could be believed.
fn adopt(client: &Client, segment: Left, buffer: &mut [u8; SEGMENT]) -> bool {
    let budget = &client.member().budget;
    let arena = budget.arena();
    let Ok(mut adopted) = budget.log.adopt(arena, segment, buffer) else {
        return false;
    };
    budget.charge_anyway(adopted.bytes);
    for (found, entry) in std::mem::take(&mut adopted.pages) {
        keep(client, &found, entry);
    }
    budget.credit_some(budget.log.adopted(arena, adopted));
    true
}

/// Has a client keep a page that was found.
fn keep(client: &Client, found: &Found, entry: Entry) {
    let (tag, id) = (found.pool, found.pool.id());
    let there = client.pages(id);
    // Of pools with one number, all but the last were being destroyed.
    let is_over = |pool: &Pages| pool.tag() != tag && pool.tag().made() >= tag.made();
    if id >= client.max_pools() || there.as_deref().is_some_and(is_over) {
        client.member().budget.free_entry(entry);
        return;
    }
    let pool = match there {
        Some(pool) if pool.tag() == tag => pool,
        _ => {
            client.destroy_pool(id);
            client.adopt_pool(tag)
        }
    };
    pool.adopt(&found.object, found.index, Content::Entry(entry));
}

#[cfg(test)]
mod tests;
