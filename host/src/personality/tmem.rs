// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-tmem: an event queue, and request queues.

use std::sync::Arc;
use std::time::Duration;

use tmem_store::Client;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_IN_ORDER;
use virtio_queue::Queue;
use virtio_serve::{GoOn, Latency, Lost, Sample, Step};
use virtio_tmem::device::{Backing, Device, EventQueue, QUEUE_SIZE, Quota, RequestQueue};
use virtio_tmem::wire::{DEVICE_ID, EVENT_QUEUE, EventKind, FIRST_REQUEST_QUEUE};
use vm_memory::GuestMemoryMmap;

use super::{Handler, Personality, VmDevice, Wake};

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

impl VmDevice for Device {
    fn client(&self) -> &Client {
        Device::client(self)
    }

    fn memory_lost(&self) -> &Lost {
        Device::memory_lost(self)
    }

    fn quota(&self) -> Quota {
        Device::quota(self)
    }

    fn set_quota(&self, quota: Quota) {
        self.set_quota_as(quota);
    }

    fn backing(&self) -> Option<Backing> {
        Device::backing(self)
    }

    fn look_after(&self, memory: Option<&GuestMemoryMmap>) {
        if let Some(memory) = memory {
            self.watch_memory(memory);
        }
        self.watch_hints();
    }

    fn instance(&self) -> [u8; 16] {
        self.config().instance
    }

    fn renew(&self, instance: [u8; 16]) -> u64 {
        Device::renew(self, instance)
    }

    fn samples(&self) -> Vec<Sample> {
        self.metrics().samples().collect()
    }

    fn latencies(&self) -> Vec<Latency> {
        self.metrics().latencies().collect()
    }

    fn help(&self, family: &str) -> &'static str {
        match family {
            "requests" => "Well-formed requests, by operation.",
            "request_status" => "Answers, by the status of the request.",
            "put_page_status" => "Pages of PUTs, by their status.",
            "get_page_status" => "Pages of GETs, by their status.",
            "prior_removed" => "Pages of PUTs under whose handle an older page went.",
            "pages_flushed" => "Pages removed by flushes.",
            "pages_destroyed" => "Pages removed with their pool.",
            "relinquished_bytes" => "Memory that the VM gave back.",
            "relinquish_range_status" => "Ranges of memory given back, by their status.",
            "events_delivered" => "Events that the driver got.",
            "faults" => "Mistakes of the driver, by their name.",
            _ => "A counter of the device.",
        }
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), &'static str> {
        Device::set_frozen(self, frozen);
        Ok(())
    }

    fn ask_for_detach(&self) -> Result<(), &'static str> {
        self.events().raise(EventKind::Detach);
        Ok(())
    }

    fn swap_pages(&self) -> Option<u64> {
        Some(Device::swap_pages(self))
    }

    fn set_swap_pages(&self, pages: u64) {
        Device::set_swap_pages(self, pages);
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

    fn is_awaited(&self) -> bool {
        self.queue.was_get()
    }

    fn took(&mut self, time: Duration) {
        if let Some(served) = self.queue.served() {
            self.device.metrics().served(served, time);
        }
    }
}
