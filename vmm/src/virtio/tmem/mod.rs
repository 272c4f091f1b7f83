// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-tmem with the store in this process.
//!
//! A guest waits for most of its requests, so by default they are served on
//! the thread of the vCPU that makes them ([`Serve`]).

mod options;
#[cfg(test)]
mod tests;

pub use options::{Tmem, TmemOptions};

use std::io;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tmem_cli::size;
use tmem_store::{ClientConfig, Compressor, Store, StoreConfig};
use virtio_tmem::device::{Device, DeviceConfig, MAX_POOLS};
use virtio_tmem::wire;

use super::personality::{Serve, Served};
use crate::confine::{self, Role};

/// What the store is called in its metrics: it has one client.
const NAME: &str = "guest";

/// A store for one guest, and the device in front of it.
pub struct TmemInProcess {
    device: Arc<Device>,
    store: Store,
    /// Compresses in the background; ended when this is dropped.
    _compressor: Compressor,
}

impl TmemInProcess {
    /// Makes the store.
    ///
    /// # Errors
    /// A sentence about a limit that cannot be, or what the system lacks.
    pub fn new(options: &TmemOptions) -> Result<Self> {
        let limit = limit(options, tmem_host::memory::of_host())?;
        let store = Store::new(StoreConfig::with_limit(limit))?;
        let compressor = store
            .start_compressor_with(|| confine::enter(Role::Store))
            .context("cannot start a thread for the store")?;
        let client =
            store.add_client(ClientConfig::new(NAME, options.quota).with_max_pools(MAX_POOLS))?;
        client.set_compression(options.codec);
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).context("cannot get random numbers")?;
        let config = DeviceConfig::new(NAME, instance)
            .with_swap_pages(options.swap_size / wire::PAGE_SIZE as u64)
            .with_request_queues(options.queues.into());
        let device = Device::new(client, config)
            .with_give_back(options.give_back)
            .with_report(Box::new(|line| log::warn!("{line}")));
        Ok(Self {
            device: Arc::new(device),
            store,
            _compressor: compressor,
        })
    }

    /// The device: quota, metrics.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The device with its queues and threads, for a machine.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor to give.
    pub fn virtio(&self, serve: Serve) -> io::Result<Served> {
        Served::new("tmem", Role::Store, self.device.clone(), serve)
    }
}

/// Most bytes that the store takes, on a host with `host` bytes of memory.
fn limit(options: &TmemOptions, host: u64) -> Result<u64> {
    let shown = size::show(host);
    ensure!(
        options.quota <= host,
        "a quota of {} is more than the host's memory of {shown}; give less with --tmem quota=",
        size::show(options.quota)
    );
    let Some(limit) = options.memory_limit else {
        return Ok(options.quota.saturating_mul(2).min(host));
    };
    ensure!(
        limit <= host,
        "a memory limit of {} is more than the host's memory of {shown}; give less with --tmem \
         quota=…,memory-limit=",
        size::show(limit)
    );
    Ok(limit)
}
