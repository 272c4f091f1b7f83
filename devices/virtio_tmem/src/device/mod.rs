// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device side: a request's way from a virtqueue to the store and back.
//!
//! `queue` has chains taken from a virtqueue as byte streams ([`Source`], [`Sink`]), [`parse`] makes a typed request of the readable bytes, [`execute`]
//! runs it against the store and writes the answer, [`shares`] knows the pools that
//! other VMs have as well, [`frames`] gives guest memory back to the host. [`config`] is the
//! configuration space, [`events`] what the driver is told of, [`metrics`] what is
//! counted, [`latency`] how long requests take, [`fault`] what a driver can do wrong.

mod config;
mod credit;
#[cfg(feature = "virtqueue")]
mod event_queue;
mod events;
mod execute;
mod fault;
mod frames;
#[cfg(feature = "virtqueue")]
mod guest_frames;
mod latency;
mod metrics;
mod parse;
#[cfg(feature = "virtqueue")]
mod queue;
mod shares;
mod verifier;

pub use config::{DeviceConfig, MAX_EXTENTS, MAX_POOLS, MAX_RANGES, MAX_RUN, QUEUE_SIZE};
pub use credit::{Account, Quota};
#[cfg(feature = "virtqueue")]
pub use event_queue::EventQueue;
pub use events::Events;
pub use execute::Executor;
pub use fault::Fault;
pub use frames::{Backing, Frames, GiveBack, InUse, NoFrames, Unreleased};
pub use latency::Served;
pub use metrics::Metrics;
pub use parse::{Request, Run, WantedShare};
#[cfg(feature = "virtqueue")]
pub use queue::RequestQueue;
pub use shares::{SharedPool, Shares};
pub use verifier::Verifier;
pub use virtio_serve::{GoOn, Latency, Recorded, Report, Sample, Sink, Source, Unmapped};
#[cfg(feature = "virtqueue")]
pub use virtio_serve::{Lost, Step, Watch, wants_notification};

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tmem_store::Client;

use shares::Shared;
use tmem_wire::{Capabilities, Config, EventKind, Hints, Limits};

/// One VM's device. Shared by all its queues.
#[derive(Debug)]
pub struct Device {
    client: Client,
    config: Mutex<Config>,
    swap_pages: AtomicU64,
    frozen: AtomicBool,
    events: Events,
    metrics: Metrics,
    frames_in_use: InUse,
    give_back: GiveBack,
    #[cfg(feature = "virtqueue")]
    memory_lost: Lost,
    account: Account,
    /// Hints of the last [`Device::watch_hints`].
    watched_hints: AtomicU8,
    /// Told of the pools that there are, while they do not change.
    pool_log: Mutex<Option<PoolLog>>,
    shared: Shared,
}

/// Notes which pools there are, after each change and before it is answered; whether it
/// could.
pub struct PoolLog(pub Box<dyn Fn(&Client) -> bool + Send + Sync>);

impl std::fmt::Debug for PoolLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PoolLog")
    }
}

impl Device {
    /// The device in front of `client`, which must accept [`MAX_POOLS`] pools.
    pub fn new(client: Client, config: DeviceConfig) -> Self {
        Self {
            account: Account::new(Quota::Fixed(client.stats().quota_bytes)),
            client,
            config: Mutex::new(config.to_wire()),
            swap_pages: AtomicU64::new(config.swap_pages),
            frozen: AtomicBool::new(false),
            events: Events::default(),
            metrics: Metrics::new(config.name),
            frames_in_use: InUse::default(),
            give_back: GiveBack::default(),
            #[cfg(feature = "virtqueue")]
            memory_lost: Lost::default(),
            watched_hints: AtomicU8::new(0),
            pool_log: Mutex::new(None),
            shared: Shared::default(),
        }
    }

    /// The same device, whose driver may have these shares.
    pub fn with_shares(self, shares: Arc<dyn Shares>) -> Self {
        let mut config = self.config();
        config.capabilities = config
            .capabilities
            .union(Capabilities::SHARED_POOLS)
            .union(Capabilities::VERIFIED_SHARES);
        Self {
            config: Mutex::new(config),
            shared: Shared::new(shares),
            ..self
        }
    }

    /// The same device, whose pools are noted in `log`.
    pub fn with_pool_log(self, log: PoolLog) -> Self {
        Self {
            pool_log: Mutex::new(Some(log)),
            ..self
        }
    }

    /// Makes or destroys a pool for the driver; and whether that could be noted.
    fn change_pools<T>(&self, change: impl FnOnce(&Client) -> T) -> (T, bool) {
        let log = self.pool_log.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&self.client);
        let is_noted = log.as_ref().is_none_or(|PoolLog(log)| log(&self.client));
        (outcome, is_noted)
    }

    /// The same device, with a choice of the memory that goes back to the host.
    pub fn with_give_back(self, give_back: GiveBack) -> Self {
        Self { give_back, ..self }
    }

    /// The same device, whose driver's mistakes are reported to `report`, for a log.
    /// The counters have them all.
    pub fn with_report(mut self, report: Report) -> Self {
        self.metrics.set_report(report);
        self
    }

    /// The store client behind the device.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The configuration space. Constant between two calls of
    /// [`Device::renew`].
    pub fn config(&self) -> Config {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Destroys all pools and gives the device a new instance id. Only while
    /// no driver can reach the device; returns the pages removed.
    pub fn renew(&self, instance: [u8; 16]) -> u64 {
        let removed = (0..MAX_POOLS)
            .filter_map(|id| self.client.destroy_pool(id))
            .sum();
        self.metrics.destroyed(removed);
        self.shared.change().clear();
        self.config
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .instance = instance;
        removed
    }

    /// Bytes `offset..offset + size` of the configuration space, zero beyond
    /// its end; always exactly `size` bytes.
    pub fn read_config(&self, offset: u32, size: u32) -> Vec<u8> {
        config::read(&self.config(), offset, size)
    }

    /// Whether the VM's memory was lost. Nothing is completed then.
    #[cfg(feature = "virtqueue")]
    pub fn memory_lost(&self) -> &Lost {
        &self.memory_lost
    }

    /// Counts what the driver did wrong with a ring or a chain.
    #[cfg(feature = "virtqueue")]
    fn ring_fault(&self, fault: virtio_serve::RingFault) {
        self.metrics.fault(fault.into());
    }

    /// What was counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Events for the driver.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Changes the quota in bytes, and tells the driver.
    pub fn set_quota(&self, bytes: u64) {
        self.set_quota_as(Quota::Fixed(bytes));
    }

    /// Changes the quota, and tells the driver.
    pub fn set_quota_as(&self, quota: Quota) {
        let bytes = self.account.set(quota);
        self.client.set_quota(bytes);
        self.events.raise(EventKind::Limits);
    }

    /// The quota as it was set.
    pub fn quota(&self) -> Quota {
        self.account.get().0
    }

    /// Looks how the VM's memory is backed, and sets a quota on credit accordingly.
    /// To be called every second or so, and after memory was given back.
    pub fn watch_memory(&self, frames: &impl Frames) {
        if let Some(bytes) = self.account.look(frames) {
            // Hints tell the driver what matters of it.
            self.client.set_quota(bytes);
        }
    }

    /// How the VM's memory was backed when that was last looked at.
    pub fn backing(&self) -> Option<Backing> {
        self.account.get().1
    }

    /// Freezes or thaws the VM, and tells the driver.
    pub fn set_frozen(&self, frozen: bool) {
        self.client.set_frozen(frozen);
        self.frozen.store(frozen, Relaxed);
        self.events.raise(EventKind::Limits);
    }

    /// Changes the size of the granted swap disk in pages, and tells the
    /// driver.
    pub fn set_swap_pages(&self, pages: u64) {
        self.swap_pages.store(pages, Relaxed);
        self.events.raise(EventKind::Limits);
    }

    /// Size of the granted swap disk in pages.
    pub fn swap_pages(&self) -> u64 {
        self.swap_pages.load(Relaxed)
    }

    /// What the device says about itself beside each answer.
    pub fn hints(&self) -> Hints {
        let mut hints = 0;
        if self.client.is_full() {
            hints |= Hints::FULL.0;
        }
        if self.frozen.load(Relaxed) {
            hints |= Hints::FROZEN.0;
        }
        Hints(hints)
    }

    /// Raises a Limits event if the hints changed since the last call. A
    /// driver that stopped putting because of [`Hints::FULL`] sees no answers:
    /// called every second or so, this tells it when to try again.
    pub fn watch_hints(&self) {
        let now = self.hints().0;
        if self.watched_hints.swap(now, Relaxed) != now {
            self.events.raise(EventKind::Limits);
        }
    }

    /// The answer to GET_LIMITS of a VM whose memory is `frames`.
    pub fn limits(&self, frames: &impl Frames) -> Limits {
        let stats = self.client.stats();
        let backing = frames.backing().unwrap_or_default();
        Limits {
            quota_bytes: stats.quota_bytes,
            held_bytes: stats.held_bytes,
            swap_pages: self.swap_pages(),
            persistent_pages: stats.persistent_pages,
            ephemeral_pages: stats.ephemeral_pages,
            hints: self.hints(),
            memory_bytes: backing.bytes,
            backed_bytes: backing.backed,
        }
    }
}

#[cfg(test)]
mod tests;
