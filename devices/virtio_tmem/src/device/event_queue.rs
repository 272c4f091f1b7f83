// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The event queue: buffers that the driver posts and the device fills when
//! there is an event.

use virtio_queue::Queue;
use vm_memory::GuestMemory;

use super::Device;
use super::chain::Chain;
use super::fault::Fault;
use super::queue::{Step, complete, take};
use super::stream::Sink;
use tmem_wire::Event;

/// Bytes used of an event buffer.
const EVENT_LEN: u32 = 32;
const _: () = assert!(EVENT_LEN as usize == Event::SIZE);

/// Serves the event queue.
#[derive(Debug)]
pub struct EventQueue {
    chain: Chain,
}

impl Default for EventQueue {
    fn default() -> Self {
        Self {
            chain: Chain::new(),
        }
    }
}

impl EventQueue {
    /// Fills one buffer, if there is an event and the driver has posted one.
    pub fn step<M: GuestMemory>(&mut self, device: &Device, mem: &M, queue: &mut Queue) -> Step {
        let Some(kind) = device.events.first() else {
            return Step::Idle;
        };
        let taken = match take(device, mem, queue, &mut self.chain) {
            Ok(taken) => taken,
            Err(step) => return step,
        };
        // Before it is written: an event that comes now is told once more.
        device.events.clear(kind);
        let event = Event { kind: kind as u32 }.encode();
        let mut sink = self.chain.sink(mem, device.memory_lost());
        let len = if sink.is_mapped(Event::SIZE as u64) && sink.write(&event).is_ok() {
            device.metrics.event_delivered();
            EVENT_LEN
        } else {
            device.metrics.fault(Fault::EventBuffer);
            device.events.keep(kind);
            0
        };
        complete(device, mem, queue, taken.head, len)
    }
}
