// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Virtio devices, without PCI.
//!
//! A device is two parts: [`VirtioDevice`], which the transport ([`mmio`])
//! asks on vCPU threads, and what works on the queues while the driver runs
//! ([`Backend`], on a thread of its own, for most). Threads are made when the
//! machine is made: once a guest runs, no thread may start another.

pub mod block;
mod config;
mod counters;
mod interrupt;
pub mod mmio;
pub mod net;
mod notice;
pub mod personality;
mod queue;
pub mod rng;
#[cfg(test)]
mod testing;
pub mod tmem;
mod vectored;
pub mod vhost_user;
mod worker;

pub use counters::Counter;
pub use interrupt::Interrupt;
use queue::Chains;
pub use queue::{Chain, QueueError, ServedQueue, total};
pub use worker::{Backend, Source, Worker};

use std::sync::Arc;

use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

/// The guest's memory. Its regions do not change while the machine exists.
pub type Memory = Arc<GuestMemoryMmap>;

/// Feature bits that every device here can offer.
pub const COMMON_FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX;

/// A virtio device as its transport sees it.
pub trait VirtioDevice: Send {
    /// The virtio device id (virtio 1.2, section 5).
    fn id(&self) -> u32;

    /// Features offered, [`COMMON_FEATURES`] included.
    fn features(&self) -> u64;

    /// Largest size of each queue, in descriptors: a power of 2, at most
    /// 32768.
    fn queue_sizes(&self) -> Vec<u16>;

    /// Fills `data` with the configuration space at `offset`; what lies beyond
    /// its end reads as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Takes what the driver wrote to the configuration space. Most devices
    /// have nothing to be written there.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// The driver is ready (DRIVER_OK). Must not block, nor start a thread.
    fn activate(&mut self, activation: Activation);

    /// The driver resets the device: when this returns, nothing touches the
    /// guest's memory or interrupts it any more on the device's behalf. Also
    /// called when the device is not active.
    fn reset(&mut self);

    /// Whoever serves notifications on the vCPU's own thread, where that is
    /// faster than to wake another. `None`: they go to [`ActiveQueue::kick`].
    fn doorbell(&self) -> Option<Arc<dyn Doorbell>> {
        None
    }
}

/// Serves a queue on the thread of the vCPU that notified.
pub trait Doorbell: Send + Sync {
    /// The driver has made buffers of `queue` available. Any number can come
    /// from the guest, also while the device is not active.
    fn ring(&self, queue: u16);
}

/// What a device gets when its driver is ready.
#[derive(Debug)]
pub struct Activation {
    /// The guest's memory.
    pub memory: Memory,
    /// Features that were negotiated.
    pub features: u64,
    /// The queues that the driver has enabled, by index. Their rings have been
    /// checked to be in memory.
    pub queues: Vec<ActiveQueue>,
    /// How to interrupt the guest.
    pub interrupt: Arc<Interrupt>,
}

impl Activation {
    /// Takes the queue with this index out; `None` if the driver has not
    /// enabled it.
    pub fn take(&mut self, index: u16) -> Option<ActiveQueue> {
        let at = self.queues.iter().position(|queue| queue.index == index)?;
        Some(self.queues.swap_remove(at))
    }

    /// Whether the feature with number `bit` was negotiated.
    pub fn has(&self, bit: u32) -> bool {
        self.features & (1 << bit) != 0
    }
}

/// A queue that the driver has enabled.
#[derive(Debug)]
pub struct ActiveQueue {
    /// Its index.
    pub index: u16,
    /// Its rings and the device's place in them.
    pub queue: Queue,
    /// Readable when the driver has notified, unless there is a [`Doorbell`].
    /// Non-blocking.
    pub kick: Arc<EventFd>,
}
