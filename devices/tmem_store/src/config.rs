// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a store, a client and a pool are made from.

use std::time::Duration;

use crate::area::Area;
use crate::types::{Identity, PoolKind};
use std::sync::Arc;

/// Settings of a [`Store`](crate::Store).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreConfig {
    /// Most bytes that the store holds over all clients: page memory and
    /// bookkeeping.
    pub memory_limit: u64,
    /// Most bytes of deferred pages, which are kept as they are until they are
    /// compressed in the background; 0: each page is compressed when it is put.
    pub deferred_limit: u64,
    /// Where persistent pages go that memory has no room for; `None`: their puts are refused then.
    pub spill: Option<Arc<dyn Area>>,
}

impl StoreConfig {
    /// Settings for a store of `memory_limit` bytes, of which an eighth, at
    /// most 64 MiB, may hold deferred pages.
    pub fn with_limit(memory_limit: u64) -> Self {
        /// More only delays: once memory is short, pages are compressed
        /// while a guest waits.
        const MOST_DEFERRED: u64 = 64 << 20;
        Self {
            memory_limit,
            deferred_limit: (memory_limit / 8).min(MOST_DEFERRED),
            spill: None,
        }
    }

    /// The same settings with a [`StoreConfig::spill`].
    #[must_use]
    pub fn with_spill(mut self, area: impl Area + 'static) -> Self {
        self.spill = Some(Arc::new(area));
        self
    }

    /// The same settings with another [`StoreConfig::deferred_limit`].
    #[must_use]
    pub fn with_deferred_limit(mut self, bytes: u64) -> Self {
        self.deferred_limit = bytes;
        self
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self::with_limit(1 << 30)
    }
}

/// Settings of a [`Client`](crate::Client).
#[derive(Clone, Debug)]
#[non_exhaustive]
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

    /// Pools that a client may have about which nothing was said.
    pub const MAX_POOLS: u32 = 64;

    /// Settings of a client for which the store holds at most `quota` bytes.
    pub fn new(name: impl Into<String>, quota: u64) -> Self {
        Self {
            name: name.into(),
            identity: None,
            quota,
            max_pools: Self::MAX_POOLS,
            weight: Self::WEIGHT,
        }
    }

    /// The same settings with a [`ClientConfig::identity`].
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The same settings with another [`ClientConfig::max_pools`].
    #[must_use]
    pub fn with_max_pools(mut self, max_pools: u32) -> Self {
        self.max_pools = max_pools;
        self
    }

    /// The same settings with another [`ClientConfig::weight`].
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }
}

/// How pages of a client are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// With LZ4, and with zstd once they were not used for long.
    #[default]
    Auto,
    /// With LZ4.
    Lz4,
    /// With LZ4, and with zstd as soon as there is time for it.
    Zstd,
    /// Not at all.
    None,
}

impl Compression {
    /// All settings.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Lz4, Self::Zstd, Self::None];

    /// What operators call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::None => "none",
        }
    }

    /// The setting that operators call so.
    ///
    /// # Errors
    /// A sentence that says what is expected.
    pub fn parse(name: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|setting| setting.name() == name)
            .ok_or_else(|| format!("'{name}' is not a codec; write auto, lz4, zstd or none"))
    }
}

/// How cold pages are recompressed in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recompression {
    /// Pages are cold once they were kept for so long and not used.
    pub after: Duration,
    /// The share of one CPU that may be spent on it, in percent; 0: it is not done.
    pub cpu_percent: u32,
}

impl Default for Recompression {
    /// A tenth of a CPU recompresses about 20 MB of pages in a second.
    fn default() -> Self {
        Self {
            after: Duration::from_secs(30),
            cpu_percent: 10,
        }
    }
}

/// Settings of a [`Pool`](crate::Pool).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PoolConfig {
    /// What the pool promises about its pages.
    pub kind: PoolKind,
    /// Most bytes that the store holds for this pool; `None`: the client's
    /// quota alone counts.
    pub quota: Option<u64>,
}

impl PoolConfig {
    /// Settings of a pool that has the client's quota alone.
    pub fn new(kind: PoolKind) -> Self {
        Self { kind, quota: None }
    }

    /// The same settings with a quota of the pool's own, or none.
    #[must_use]
    pub fn with_quota(mut self, quota: impl Into<Option<u64>>) -> Self {
        self.quota = quota.into();
        self
    }
}
