// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-tmem: an event queue, and request queues.

use std::sync::Arc;
use std::time::Duration;

use virtio_bindings::bindings::virtio_config::VIRTIO_F_IN_ORDER;
use virtio_queue::Queue;
use virtio_serve::{GoOn, Step};
use virtio_tmem::device::{Device, EventQueue, QUEUE_SIZE, RequestQueue};
use virtio_tmem::wire::{DEVICE_ID, EVENT_QUEUE, FIRST_REQUEST_QUEUE};
use vm_memory::GuestMemoryMmap;

use super::{Handler, Personality, Wake};

impl Personality for Device {
    fn id(&self) -> u32 {
        DEVICE_ID
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_IN_ORDER
    }

    fn queue_sizes(&self) -> Vec<u16> {
        let requests = usize::try_from(self.config().request_queues).unwrap_or(usize::MAX);
        vec![QUEUE_SIZE; requests.saturating_add(FIRST_REQUEST_QUEUE.into())]
    }

    fn read_config(&self, offset: u32, size: u32) -> Vec<u8> {
        Device::read_config(self, offset, size)
    }

    fn handler(self: Arc<Self>, queue: u16) -> Box<dyn Handler> {
        if queue == EVENT_QUEUE {
            Box::new(Events {
                device: self,
                queue: EventQueue::default(),
            })
        } else {
            Box::new(Requests {
                device: self,
                queue: RequestQueue::default(),
            })
        }
    }

    fn woken_queue(&self) -> Option<u16> {
        Some(EVENT_QUEUE)
    }

    fn set_wake(&self, wake: Option<Wake>) {
        self.events().set_wake(wake);
    }
}

struct Events {
    device: Arc<Device>,
    queue: EventQueue,
}

impl Handler for Events {
    fn step(&mut self, memory: &GuestMemoryMmap, queue: &mut Queue, _go_on: GoOn<'_>) -> Step {
        self.queue.step(&self.device, memory, queue)
    }

    /// Buffers wait for events.
    fn has_work(&self) -> bool {
        self.device.events().is_pending()
    }
}

struct Requests {
    device: Arc<Device>,
    queue: RequestQueue,
}

impl Handler for Requests {
    fn step(&mut self, memory: &GuestMemoryMmap, queue: &mut Queue, go_on: GoOn<'_>) -> Step {
        self.queue.step_while(&self.device, memory, queue, go_on)
    }

    fn took(&mut self, time: Duration) {
        if let Some(served) = self.queue.served() {
            self.device.metrics().served(served, time);
        }
    }
}
