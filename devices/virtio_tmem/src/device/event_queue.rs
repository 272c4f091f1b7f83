// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The event queue: buffers that the driver posts and the device fills when
//! there is an event.

use virtio_queue::Queue;
use virtio_serve::{Requests, Sink, Step};
use vm_memory::GuestMemory;

use super::Device;
use super::fault::Fault;
use tmem_wire::Event;

/// Bytes used of an event buffer.
const EVENT_LEN: u32 = 32;
const _: () = assert!(EVENT_LEN as usize == Event::SIZE);

/// Serves the event queue.
#[derive(Debug, Default)]
pub struct EventQueue {
    buffers: Requests,
}

impl EventQueue {
    /// Fills one buffer, if there is an event and the driver has posted one.
    pub fn step<M: GuestMemory>(&mut self, device: &Device, mem: &M, queue: &mut Queue) -> Step {
        let Some(kind) = device.events.first() else {
            return Step::Idle;
        };
        let lost = device.memory_lost();
        let report = |fault| device.ring_fault(fault);
        let taken = match self.buffers.take(mem, lost, queue, report) {
            Ok(taken) => taken,
            Err(step) => return step,
        };
        // Before it is written: an event that comes now is told once more.
        device.events.clear(kind);
        let event = Event { kind: kind as u32 }.encode();
        let mut sink = self.buffers.sink(mem, lost);
        let len = if sink.is_mapped(Event::SIZE as u64) && sink.write(&event).is_ok() {
            device.metrics.event_delivered();
            EVENT_LEN
        } else {
            device.metrics.fault(Fault::EventBuffer);
            device.events.keep(kind);
            0
        };
        taken.complete(mem, lost, queue, len, report)
    }
}
