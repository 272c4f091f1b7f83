// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's page store: pools, index, page memory, codecs and quotas.
//!
//! A [`Store`] serves many [`Client`]s, each of which owns [`Pool`]s. A page
//! is named by pool, object and index and is only ever copied in (put) or out
//! (get). A persistent pool keeps a page until it is flushed; an ephemeral
//! pool may lose it at any time but never returns stale data.
//!
//! Quotas and limits are hard and count *bytes held*: what the host really
//! spends, which is the memory behind the segments of its log (a client shares
//! none with another) and the index. A client that spreads its pages so that they cost
//! more pays more.
//!
//! ```
//! use tmem_store::{ClientConfig, Get, PAGE_SIZE, PoolConfig, PoolKind, Store, StoreConfig};
//!
//! let store = Store::new(StoreConfig::with_limit(64 << 20))?;
//! let client = store.add_client(ClientConfig::new("guest", 16 << 20))?;
//! client.create_pool(0, PoolConfig::new(PoolKind::Persistent))?;
//! let pool = client.pool(0).ok_or("the pool was made")?;
//!
//! let object = [7; 24];
//! let put = pool.put(&object, 3, &[0xa5; PAGE_SIZE]);
//! assert!(put.result.is_ok() && !put.prior_removed);
//!
//! let mut page = [0; PAGE_SIZE];
//! assert_eq!(pool.get(&object, 3, &mut page), Get::Hit);
//! assert_eq!(page, [0xa5; PAGE_SIZE]);
//! assert_eq!(pool.get(&object, 4, &mut page), Get::Miss);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Layers, each knowing only those before it: `types`, `words`, `area` (where
//! pages go that memory has no room for), `config`, `stats`; `tier` (page memory, and what is spilled) and `codec`; `index` and `budget` (who may hold how much); `pool`;
//! `reclaim` (who gives up); `handle`, `base` (what clones have in common), `client`, `clones`, `store`, `background`, `compressor`, `demoter` and `image`. The lock
//! order stands in `store`.

mod area;
mod background;
mod base;
mod budget;
mod client;
mod clones;
mod codec;
mod compressor;
mod config;
mod counters;
mod demoter;
mod handle;
mod image;
mod index;
#[cfg(all(test, shuttle))]
mod interleavings;
mod pool;
mod reclaim;
mod stats;
mod store;
mod sync;
mod tier;
mod types;
mod words;

pub use area::{Area, Reading, SEGMENT_BYTES, SegmentKey, SpillArea, SpillError};
pub use base::{Base, CloneError};
pub use client::Client;
pub use compressor::Compressor;
pub use config::{ClientConfig, Compression, PoolConfig, Recompression, StoreConfig};
pub use demoter::Demoter;
pub use handle::Pool;
pub use image::{Recovery, RestoreError, Restored, SAVED_SEGMENT, Save};
pub use stats::{ClientStats, Metric, MetricKind, SharedStats, StoreStats, Unit};
pub use store::Store;
pub use tier::PageMemory;
pub use types::{
    Created, Error, Found, Get, Identity, Lost, ObjectId, PAGE_SIZE, Page, PoolError, PoolKind,
    Put, Refused,
};
