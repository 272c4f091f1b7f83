// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a store, a client and a pool are made from.

use crate::types::PoolKind;

/// Settings of a [`Store`](crate::Store).
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Most bytes that the store holds over all clients: page memory and
    /// bookkeeping.
    pub memory_limit: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            memory_limit: 1 << 30,
        }
    }
}

/// Settings of a [`Client`](crate::Client).
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// For people: statistics carry it, the store does not interpret it.
    pub name: String,
    /// Most bytes that the store holds for this client: the memory of its
    /// pages and their bookkeeping.
    pub quota: u64,
    /// Pool ids run from 0 to `max_pools - 1`.
    pub max_pools: u32,
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
