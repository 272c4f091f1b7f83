// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages of the store as a plain virtio-blk disk (virtio 1.2, section 5.2), which any
//! guest has a driver for.
//!
//! A [`Disk`] is one VM's disk: a persistent pool of a client of the store, in which each
//! block of 4 KiB is a page. What was never written, was discarded, or was written with
//! zeros holds no memory. A [`RequestQueue`] serves one of its virtqueues: whoever owns the
//! transport calls it when the driver kicks. No layer here logs or starts a thread.
//!
//! ```
//! use tmem_store::{ClientConfig, Store, StoreConfig};
//! use virtio_blk_tmem::{Disk, DiskConfig, SwapHeader};
//!
//! let store = Store::new(StoreConfig::with_limit(64 << 20))?;
//! let client = store.add_client(ClientConfig::new("web1", 16 << 20))?;
//! let header = SwapHeader { label: "tmem".into(), uuid: [7; 16] };
//! let config = DiskConfig::new("web1", 8 << 30).with_queues(2).with_swapspace(header);
//! let disk = Disk::new(client, config)?;
//!
//! // What a driver reads first: the capacity in sectors of 512 bytes.
//! assert_eq!(disk.read_config(0, 8), (16_u64 << 20).to_le_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `queue` has requests taken from a virtqueue, `execute` runs them on the [`Disk`]'s
//! `pages`; [`wire`] is what they look like, [`space`] the configuration space, `fault` what
//! a driver can do wrong, `metrics` what is counted.

mod config;
mod disk;
mod execute;
mod extent;
mod fault;
mod limits;
mod metrics;
mod pages;
mod queue;
mod ranges;
pub mod space;
mod swap_header;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wire;

pub use config::{DiskConfig, SwapHeader};
pub use disk::{Disk, DiskError};
pub use fault::Fault;
pub use limits::{BLOCK, MAX_RANGES, QUEUE_SIZE, SECTOR};
pub use metrics::{Metrics, Served};
pub use queue::RequestQueue;
