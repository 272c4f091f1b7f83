// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device in the same process, run when it is kicked.

use std::sync::Arc;
use std::time::Instant;

use tmem_store::{Client, ClientConfig, Store};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemory;

use super::driver::Transport;
use crate::device::{Device, DeviceConfig, MAX_POOLS, RequestQueue, Step};

/// A client of `store` as a device wants it.
pub fn client(store: &Store, name: &str, quota: u64) -> Client {
    store
        .add_client(ClientConfig::new(name, quota).with_max_pools(MAX_POOLS))
        .expect("the store has room")
}

/// A device of a new client of `store`.
pub fn device(store: &Store, name: &str, quota: u64) -> Arc<Device> {
    let config = DeviceConfig::new(name, [7; 16])
        .with_swap_pages(1 << 20)
        .with_request_queues(2);
    Arc::new(Device::new(client(store, name, quota), config))
}

/// Runs a device's request queue on each kick.
#[derive(Debug)]
pub struct InProcess<'m, M> {
    mem: &'m M,
    device: Arc<Device>,
    queue: Queue,
    requests: RequestQueue,
    /// What the last kick ended with.
    pub last: Step,
}

impl<'m, M: GuestMemory> InProcess<'m, M> {
    /// Serves the device's side of a queue.
    pub fn new(mem: &'m M, device: Arc<Device>, queue: Queue) -> Self {
        Self {
            mem,
            device,
            queue,
            requests: RequestQueue::default(),
            last: Step::Idle,
        }
    }

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }
}

impl<M: GuestMemory> Transport for InProcess<'_, M> {
    fn kick(&mut self) {
        loop {
            let began = Instant::now();
            self.last = self.requests.step(&self.device, self.mem, &mut self.queue);
            if let Some(served) = self.requests.served() {
                self.device.metrics().served(served, began.elapsed());
            }
            match self.last {
                Step::Used { .. } | Step::Skipped | Step::Stopped => {}
                Step::Broken => break,
                Step::Idle => {
                    if !self.queue.enable_notification(self.mem).unwrap_or(false) {
                        break;
                    }
                }
            }
        }
    }

    fn wait(&mut self) {
        panic!(
            "the device did not answer when it was kicked: {:?}",
            self.last
        );
    }
}
