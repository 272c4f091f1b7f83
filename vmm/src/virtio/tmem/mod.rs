// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-tmem, or a plain virtio-blk disk, with the store in this process.
//!
//! A guest waits for most of its requests, so by default they are served on
//! the thread of the vCPU that makes them ([`Serve`]).

mod care;
mod options;
mod registered;
#[cfg(test)]
mod tests;

pub use options::{Tmem, TmemOptions};

use std::io;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tmem_cli::size;
use tmem_host::api::Api;
use tmem_host::device::{self, Has, Ids};
use tmem_host::personality::VmDevice;
use tmem_store::{ClientConfig, Compressor, Store, StoreConfig};
use virtio_tmem::device::MAX_POOLS;

use super::Memory;
use super::personality::{Serve, Served};
use crate::confine::{self, Role};
use care::Care;

/// A store for one guest, and the device in front of it.
pub struct TmemInProcess {
    device: Arc<dyn VmDevice>,
    api: Api,
    /// Looks after it; ended when this is dropped.
    _care: Care,
    /// Compresses in the background; ended when this is dropped.
    _compressor: Compressor,
}

impl TmemInProcess {
    /// Makes the store, for a guest with this memory.
    ///
    /// # Errors
    /// A sentence about a limit that cannot be, or what the system lacks.
    pub fn new(options: &TmemOptions, memory: &Memory) -> Result<Self> {
        let limit = limit(options, tmem_host::memory::of_host())?;
        let store = Store::new(StoreConfig::with_limit(limit))?;
        let compressor = store
            .start_compressor_with(|| confine::enter(Role::Store))
            .context("cannot start a thread for the store")?;
        let name = options.name.as_str();
        let client =
            store.add_client(ClientConfig::new(name, options.quota).with_max_pools(MAX_POOLS))?;
        client.set_compression(options.codec);
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).context("cannot get random numbers")?;
        let settings = registered::settings(options)?;
        // The guest is another one each time.
        let ids = Ids {
            identity: instance,
            instance,
        };
        let queues = options.queues.into();
        let device = device::make(name, &settings, client, ids, queues, Has::default())?;
        let registry =
            registered::registry(options, settings, device.clone(), memory.clone(), limit)?;
        let registry = Arc::new(registry);
        let health = Arc::default();
        let care = Care::start(registry.clone(), Arc::clone(&health));
        let store = Some(store);
        Ok(Self {
            device,
            api: Api {
                store,
                registry,
                health,
            },
            _care: care.context("cannot start a thread for the store")?,
            _compressor: compressor,
        })
    }

    /// What an operator sees and changes of it.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The device with its queues and threads, for a machine.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor to give.
    pub fn virtio(&self, serve: Serve) -> io::Result<Served> {
        Served::new("tmem", Role::Store, self.device.clone(), serve)
    }
}

/// The control API of a machine without a store, and why it has none.
pub fn api_of_nobody(why: &'static str) -> Api {
    Api {
        store: None,
        registry: Arc::new(registered::nobody(why)),
        health: Arc::default(),
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
