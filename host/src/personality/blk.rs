// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-blk: request queues only.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tmem_store::Client;
use virtio_blk_tmem::{Disk, Metrics, RequestQueue};
use virtio_queue::Queue;
use virtio_serve::{GoOn, Latency, Lost, Sample, Step};
use virtio_tmem::device::{Account, Backing, Quota};
use vm_memory::GuestMemoryMmap;

use super::{Handler, Personality, VmDevice};

/// The virtio device id of a disk.
const DEVICE_ID: u32 = 2;

/// A disk, and what the host knows of its machine.
#[derive(Debug)]
pub(crate) struct Blk {
    disk: Disk,
    account: Account,
    instance: Mutex<[u8; 16]>,
}

impl Blk {
    pub(crate) fn new(disk: Disk, instance: [u8; 16]) -> Self {
        let quota = disk.client().stats().quota_bytes;
        Self {
            disk,
            account: Account::new(Quota::Fixed(quota)),
            instance: Mutex::new(instance),
        }
    }
}

impl Personality for Blk {
    fn id(&self) -> u32 {
        DEVICE_ID
    }

    fn features(&self) -> u64 {
        self.disk.features()
    }

    fn negotiated(&self, features: u64) {
        self.disk.negotiated(features);
    }

    fn queue_sizes(&self) -> Vec<u16> {
        self.disk.queue_sizes()
    }

    fn read_config(&self, offset: u32, size: u32) -> Vec<u8> {
        self.disk.read_config(offset, size)
    }

    fn write_config(&self, offset: u32, data: &[u8]) {
        self.disk.write_config(offset, data);
    }

    fn handler(self: Arc<Self>, _queue: u16) -> Box<dyn Handler> {
        Box::new(Requests {
            blk: self,
            queue: RequestQueue::default(),
        })
    }
}

impl VmDevice for Blk {
    fn client(&self) -> &Client {
        self.disk.client()
    }

    fn memory_lost(&self) -> &Lost {
        self.disk.memory_lost()
    }

    fn quota(&self) -> Quota {
        self.account.get().0
    }

    fn set_quota(&self, quota: Quota) {
        self.disk.set_quota(self.account.set(quota));
    }

    fn backing(&self) -> Option<Backing> {
        self.account.get().1
    }

    /// Memory goes back to the host by the VMM's own balloon, and shows in its files.
    fn look_after(&self, memory: Option<&GuestMemoryMmap>) {
        if let Some(bytes) = memory.and_then(|memory| self.account.look(memory)) {
            self.disk.set_quota(bytes);
        }
    }

    fn instance(&self) -> [u8; 16] {
        *self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew(&self, instance: [u8; 16]) -> u64 {
        *self.instance.lock().unwrap_or_else(PoisonError::into_inner) = instance;
        match self.disk.erase() {
            Ok(blocks) => blocks,
            Err(error) => {
                log::error!("{}: {error}", self.disk.config().name);
                0
            }
        }
    }

    fn is_for_any_driver(&self) -> bool {
        true
    }

    fn set_misses_pages(&self, misses: bool) {
        self.disk.set_incomplete(misses);
    }

    fn samples(&self) -> Vec<Sample> {
        self.disk.metrics().samples().collect()
    }

    fn latencies(&self) -> Vec<Latency> {
        self.disk.metrics().latencies().collect()
    }

    fn help(&self, family: &str) -> &'static str {
        let found = Metrics::HELP.iter().find(|(name, _)| *name == family);
        found.map_or("A counter of the device.", |(_, help)| help)
    }

    /// A refused write is an error that its guest may not survive.
    fn set_frozen(&self, frozen: bool) -> Result<(), &'static str> {
        match frozen {
            true => Err("a disk cannot be frozen: its guest would see writes fail"),
            false => Ok(()),
        }
    }

    fn ask_for_detach(&self) -> Result<(), &'static str> {
        Err(
            "a disk's driver cannot be asked to bring pages back; run swapoff on it in the guest, or unmount it",
        )
    }
}

struct Requests {
    blk: Arc<Blk>,
    queue: RequestQueue,
}

impl Handler for Requests {
    fn step(&mut self, memory: &GuestMemoryMmap, queue: &mut Queue, go_on: GoOn<'_>) -> Step {
        self.queue.step(&self.blk.disk, memory, queue, go_on)
    }

    fn took(&mut self, time: Duration) {
        if let Some(served) = self.queue.served() {
            self.blk.disk.metrics().served(served, time);
        }
    }
}
