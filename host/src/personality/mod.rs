// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a door serves: a virtio device without its transport.
//!
//! A door (the vhost-user daemon, the VMM) owns the transport: rings, guest memory,
//! notifications and threads. A [`Personality`] is the rest of a device: which
//! features and queues it has, what is in its configuration space, and a [`Handler`]
//! for each queue. [`serve()`] is the loop between the two, the same for every door and
//! every personality.
//!
//! The trait is what virtio-tmem ([`Device`](virtio_tmem::device::Device)) and
//! virtio-blk need. The latter also has a configuration field that drivers write, and
//! acts upon negotiated features. What a host's operator has to do with them is in
//! [`VmDevice`].

mod blk;
mod poll;
mod queue_loop;
#[cfg(test)]
mod tests;
mod tmem;
mod vm_device;

pub(crate) use blk::Blk;
pub use poll::Poller;
pub use queue_loop::{Lane, serve};
pub use virtio_serve::{GoOn, Step};
pub use vm_device::VmDevice;

use std::sync::Arc;
use std::time::Duration;

use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;

/// Calls whoever serves the queue that is to be woken. Must not block.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// A virtio device without its transport; shared by all its queues.
pub trait Personality: Send + Sync {
    /// The virtio device id (virtio 1.2, section 5).
    fn id(&self) -> u32;

    /// Features that are offered beside those of the door: of the device, and of the ring
    /// if they depend on how requests are served (`VIRTIO_F_IN_ORDER`).
    fn features(&self) -> u64;

    /// The driver has accepted these features. Called before any queue is served.
    fn negotiated(&self, _features: u64) {}

    /// Largest size of each queue, in descriptors.
    fn queue_sizes(&self) -> Vec<u16>;

    /// Bytes `offset..offset + size` of the configuration space, zero beyond its end;
    /// always exactly `size` bytes.
    fn read_config(&self, offset: u32, size: u32) -> Vec<u8>;

    /// Takes what the driver wrote to the configuration space. Most devices have nothing
    /// to be written there.
    fn write_config(&self, _offset: u32, _data: &[u8]) {}

    /// What serves the queue with this index. A door keeps it from one driver to the
    /// next.
    fn handler(self: Arc<Self>, queue: u16) -> Box<dyn Handler>;

    /// The queue that can have work without a notification of the driver's.
    fn woken_queue(&self) -> Option<u16> {
        None
    }

    /// Sets what is called when [`Personality::woken_queue`] has work; `None` when nobody
    /// serves it any more.
    fn set_wake(&self, _wake: Option<Wake>) {}
}

/// Serves one queue of a personality.
pub trait Handler: Send {
    /// Runs one request, if there is one, and completes it in `queue`. A request that takes
    /// long asks `go_on` now and then whether it may.
    fn step(&mut self, memory: &GuestMemoryMmap, queue: &mut Queue, go_on: GoOn<'_>) -> Step;

    /// A buffer was used, and that took so long since the one before it, or since there was
    /// something to do.
    fn took(&mut self, _time: Duration) {}

    /// Whether the last request was one that a program in the guest waits for: then the next one comes
    /// when that goes on.
    fn is_awaited(&self) -> bool {
        false
    }

    /// Whether available buffers are work now. Not if they wait for something to be
    /// written there.
    fn has_work(&self) -> bool {
        true
    }
}
