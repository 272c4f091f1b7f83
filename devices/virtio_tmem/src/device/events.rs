// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The event queue: buffers that the driver posts and the device fills when
//! there is news.

use std::sync::atomic::{AtomicU32, Ordering};

use virtio_queue::Queue;
use vm_memory::GuestMemory;

use super::Device;
use super::chain::{Chain, Sink};
use super::fault::Fault;
use super::queue::{Step, complete, take};
use tmem_wire::{Event, EventKind};

/// Bytes used of an event buffer.
const EVENT_LEN: u32 = 32;
const _: () = assert!(EVENT_LEN as usize == Event::SIZE);

const KINDS: [EventKind; 2] = [EventKind::Limits, EventKind::Detach];

/// Calls whoever serves the event queue.
type Wake = Box<dyn Fn() + Send + Sync>;

/// News that the driver has not got yet; events of one kind are merged.
#[derive(Default)]
pub struct Events {
    /// Bit `1 << kind` for every kind of event.
    pending: AtomicU32,
    wake: std::sync::Mutex<Option<Wake>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

impl Events {
    /// Notes news for the driver and wakes whoever serves the event queue.
    pub fn raise(&self, kind: EventKind) {
        self.pending.fetch_or(1 << kind as u32, Ordering::Release);
        let wake = self.wake.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(wake) = wake.as_ref() {
            wake();
        }
    }

    /// Sets what is called when there is news; `None` when nobody serves the
    /// event queue any more. It must not block.
    pub fn set_wake(&self, wake: Option<Wake>) {
        *self.wake.lock().unwrap_or_else(|e| e.into_inner()) = wake;
    }

    /// Whether there is news.
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire) != 0
    }

    fn first(&self) -> Option<EventKind> {
        let pending = self.pending.load(Ordering::Acquire);
        KINDS
            .into_iter()
            .find(|kind| pending & (1 << *kind as u32) != 0)
    }

    fn clear(&self, kind: EventKind) {
        self.pending
            .fetch_and(!(1 << kind as u32), Ordering::AcqRel);
    }
}

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
    /// Fills one buffer, if there is news and the driver has posted one.
    pub fn step<M: GuestMemory>(&mut self, device: &Device, mem: &M, queue: &mut Queue) -> Step {
        let Some(kind) = device.events.first() else {
            return Step::Idle;
        };
        let taken = match take(device, mem, queue, &mut self.chain) {
            Ok(taken) => taken,
            Err(step) => return step,
        };
        // Before it is written: news that comes now is told once more.
        device.events.clear(kind);
        let event = Event { kind: kind as u32 }.encode();
        let mut sink = self.chain.sink(mem, device.memory_lost());
        let len = if sink.is_mapped(Event::SIZE as u64) && sink.write(&event).is_ok() {
            device.metrics.event_delivered();
            EVENT_LEN
        } else {
            device.metrics.fault(Fault::EventBuffer);
            device
                .events
                .pending
                .fetch_or(1 << kind as u32, Ordering::Release);
            0
        };
        complete(device, mem, queue, taken.head, len)
    }
}
