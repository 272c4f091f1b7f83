// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a store, a client and a pool are made from.

use crate::types::{Identity, PoolKind};

/// Settings of a [`Store`](crate::Store).
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Most bytes that the store holds over all clients: page memory and
    /// bookkeeping.
    pub memory_limit: u64,
    /// Most bytes of pages that wait, as they are, to be compressed later
    /// than they were put; 0: each page is compressed when it is put.
    pub deferred_limit: u64,
}

impl StoreConfig {
    /// Settings for a store of `memory_limit` bytes, of which an eighth, at
    /// most 64 MiB, may hold pages that wait to be compressed.
    pub fn with_limit(memory_limit: u64) -> Self {
        /// More only delays: once memory is short, pages are compressed
        /// while a guest waits.
        const MOST_DEFERRED: u64 = 64 << 20;
        Self {
            memory_limit,
            deferred_limit: (memory_limit / 8).min(MOST_DEFERRED),
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self::with_limit(1 << 30)
    }
}

/// Settings of a [`Client`](crate::Client).
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// For people: statistics carry it, the store does not interpret it.
    pub name: String,
    /// Who it is, also after a restart; `None`: nobody who was there before.
    pub identity: Option<Identity>,
    /// Most bytes that the store holds for this client: the memory of its
    /// pages and their bookkeeping. While the cleaner moves pages to a new
    /// segment, that segment is held beyond it.
    pub quota: u64,
    /// Pool ids run from 0 to `max_pools - 1`.
    pub max_pools: u32,
    /// The client's part of the store's memory when it is short: to that of each
    /// other as its weight is to theirs. At least 1.
    pub weight: u32,
}

impl ClientConfig {
    /// The weight of a client about which nothing was said.
    pub const WEIGHT: u32 = 100;
}

/// Settings of a [`Pool`](crate::Pool).
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig {
    /// What the pool promises about its pages.
    pub kind: PoolKind,
    /// Most bytes that the store holds for this pool; `None`: the client's
    /// quota alone counts.
    pub quota: Option<u64>,
}
