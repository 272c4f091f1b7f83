// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a virtqueue to the executor and back. Chains are run and completed in
//! the order in which the driver made them available.

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

use super::Device;
use super::chain::Chain;
use super::execute::{Executor, GoOn};
use super::fault::Fault;
use super::latency::Served;

/// What became of one step of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There was nothing to do.
    Idle,
    /// A buffer was used; `notify`: the driver wants to hear of it.
    Used {
        /// Whether to send a used-buffer notification.
        notify: bool,
    },
    /// A mistake of the driver cost a buffer that cannot be given back.
    Skipped,
    /// The request was stopped before its end, and is available still.
    Stopped,
    /// The rings make no sense: nothing can be done before the next kick.
    Broken,
}

/// Serves a request queue.
#[derive(Debug)]
pub struct RequestQueue {
    chain: Chain,
    executor: Executor,
}

impl Default for RequestQueue {
    fn default() -> Self {
        Self {
            chain: Chain::new(),
            executor: Executor::default(),
        }
    }
}

impl RequestQueue {
    /// Runs one request, if there is one.
    pub fn step<M: GuestMemory>(&mut self, device: &Device, mem: &M, queue: &mut Queue) -> Step {
        self.step_while(device, mem, queue, &mut || true)
    }

    /// As [`RequestQueue::step`]; a request that takes long asks `go_on` now and then
    /// whether it may.
    pub fn step_while<M: GuestMemory>(
        &mut self,
        device: &Device,
        mem: &M,
        queue: &mut Queue,
        go_on: GoOn<'_>,
    ) -> Step {
        // What nobody asked for.
        let _ = self.executor.served();
        let before = queue.next_avail();
        let taken = match take(device, mem, queue, &mut self.chain) {
            Ok(taken) => taken,
            Err(step) => return step,
        };
        let sink = self.chain.sink(mem, device.memory_lost());
        let len = match taken.outcome {
            Ok(()) => {
                let source = &mut self.chain.source(mem, device.memory_lost());
                self.executor.run(device, mem, source, sink, go_on)
            }
            Err(fault) => Some(Executor::refuse(device, fault, sink)),
        };
        let Some(len) = len else {
            queue.set_next_avail(before);
            return Step::Stopped;
        };
        complete(device, mem, queue, taken.head, len)
    }

    /// What the last step has served, once, for who knows how long that took; `None` if it is
    /// of no interest.
    pub fn served(&mut self) -> Option<Served> {
        self.executor.served()
    }
}

/// A chain taken from the available ring.
pub(super) struct Taken {
    pub(super) head: u16,
    /// What is wrong with its descriptors.
    pub(super) outcome: Result<(), Fault>,
}

/// Takes the next available chain and loads its descriptors into `chain`.
/// Without one, says what became of the step.
pub(super) fn take<M: GuestMemory>(
    device: &Device,
    mem: &M,
    queue: &mut Queue,
    chain: &mut Chain,
) -> Result<Taken, Step> {
    let size = queue.size();
    let before = queue.next_avail();
    if device.memory_lost().is_lost() {
        return Err(Step::Broken);
    }
    if overlaps(queue) {
        device.metrics.fault(Fault::RingOverlap);
        return Err(Step::Broken);
    }
    let taken = match queue.iter(mem) {
        Ok(mut available) => available.next(),
        // Stopped by the front end: not the driver's doing.
        Err(virtio_queue::Error::QueueNotReady) => return Err(Step::Broken),
        Err(_) => {
            device.metrics.fault(Fault::QueueIndex);
            return Err(Step::Broken);
        }
    };
    let Some(taken) = taken else {
        // Also the end when the entry cannot be read: then it never can.
        let unread = queue
            .avail_idx(mem, Ordering::Relaxed)
            .is_ok_and(|index| index.0 != before);
        return if unread && !is_readable(mem, queue) {
            device.metrics.fault(Fault::QueueIndex);
            Err(Step::Broken)
        } else {
            Err(Step::Idle)
        };
    };
    let head = taken.head_index();
    if head >= size {
        device.metrics.fault(Fault::HeadRange);
        return Err(Step::Skipped);
    }
    let outcome = chain.load(taken);
    Ok(Taken { head, outcome })
}

/// Whether parts of the queue lie over each other.
fn overlaps(queue: &Queue) -> bool {
    let size = u64::from(queue.size());
    // Sizes as virtio 1.2, section 2.7, gives them; both rings with the event
    // field at their end.
    let table = (queue.desc_table(), 16 * size);
    let available = (queue.avail_ring(), 6 + 2 * size);
    let used = (queue.used_ring(), 6 + 8 * size);
    let meet = |a: (u64, u64), b: (u64, u64)| {
        a.0 < b.0.saturating_add(b.1) && b.0 < a.0.saturating_add(a.1)
    };
    meet(table, available) || meet(table, used) || meet(available, used)
}

/// Whether the available ring lies in guest memory as a whole.
fn is_readable<M: GuestMemory>(mem: &M, queue: &Queue) -> bool {
    // Flags, index, entries, used event; two bytes each.
    let len = 2 * (usize::from(queue.size()) + 3);
    mem.check_range(GuestAddress(queue.avail_ring()), len, Permissions::Read)
}

/// Puts a chain into the used ring.
pub(super) fn complete<M: GuestMemory>(
    device: &Device,
    mem: &M,
    queue: &mut Queue,
    head: u16,
    len: u32,
) -> Step {
    // The driver must not take for done what may have met other memory.
    if device.memory_lost().is_lost() {
        return Step::Broken;
    }
    if queue.add_used(mem, head, len).is_err() {
        device.metrics.fault(Fault::UsedRing);
        return Step::Broken;
    }
    Step::Used {
        notify: wants_notification(mem, queue),
    }
}

/// Whether the driver wants to hear of the buffer just used; in doubt yes.
/// (virtio 1.2, section 2.7.10.)
pub fn wants_notification<M: GuestMemory>(mem: &M, queue: &mut Queue) -> bool {
    // virtio-queue looks at the event index only, not at the flag.
    if !queue.event_idx_enabled() {
        // The used index must be out before the flag is looked at.
        fence(Ordering::SeqCst);
        let flags: u16 = mem
            .read_obj(GuestAddress(queue.avail_ring()))
            .unwrap_or_default();
        return u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0;
    }
    queue.needs_notification(mem).unwrap_or(true)
}
