// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a virtqueue to a device and back. Chains are taken in the order in which the
//! driver made them available.

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

use super::chain::{Chain, Cursor};
use super::fault::RingFault;
use super::lost::Lost;

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

/// Takes requests from a queue, one at a time. Each queue has its own, so that nothing has to
/// be allocated while a request runs.
#[derive(Debug)]
pub struct Requests {
    chain: Chain,
}

/// A chain taken from the available ring.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    head: u16,
    /// Where it was in the available ring.
    at: u16,
    /// What is wrong with its descriptors. Those before the mistake may have room for an
    /// answer that says so.
    pub outcome: Result<(), RingFault>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            chain: Chain::new(),
        }
    }
}

impl Requests {
    /// Takes the next available chain. Without one, says what became of the step, and
    /// tells `report` whose mistake it is.
    ///
    /// # Errors
    /// What became of the step.
    pub fn take<M: GuestMemory>(
        &mut self,
        mem: &M,
        lost: &Lost,
        queue: &mut Queue,
        report: impl Fn(RingFault),
    ) -> Result<Taken, Step> {
        let size = queue.size();
        let at = queue.next_avail();
        let broken = |fault| {
            report(fault);
            Err(Step::Broken)
        };
        if lost.is_lost() {
            return Err(Step::Broken);
        }
        if overlaps(queue) {
            return broken(RingFault::RingOverlap);
        }
        let taken = match queue.iter(mem) {
            Ok(mut available) => available.next(),
            // Stopped by the front end: not the driver's doing.
            Err(virtio_queue::Error::QueueNotReady) => return Err(Step::Broken),
            Err(_) => return broken(RingFault::QueueIndex),
        };
        let Some(taken) = taken else {
            // Also the end when the entry cannot be read: then it never can.
            let unread = queue
                .avail_idx(mem, Ordering::Relaxed)
                .is_ok_and(|index| index.0 != at);
            return if unread && !is_readable(mem, queue) {
                broken(RingFault::QueueIndex)
            } else {
                Err(Step::Idle)
            };
        };
        let head = taken.head_index();
        if head >= size {
            report(RingFault::HeadRange);
            return Err(Step::Skipped);
        }
        let outcome = self.chain.load(taken);
        Ok(Taken { head, at, outcome })
    }

    /// The device-readable bytes of the chain that was taken last.
    pub fn source<'a, M: GuestMemory + ?Sized>(
        &'a self,
        mem: &'a M,
        lost: &'a Lost,
    ) -> Cursor<'a, M> {
        self.chain.source(mem, lost)
    }

    /// The device-writable bytes of the chain that was taken last.
    pub fn sink<'a, M: GuestMemory + ?Sized>(
        &'a self,
        mem: &'a M,
        lost: &'a Lost,
    ) -> Cursor<'a, M> {
        self.chain.sink(mem, lost)
    }
}

impl Taken {
    /// Leaves the chain available: it is run again.
    pub fn stop(self, queue: &mut Queue) -> Step {
        queue.set_next_avail(self.at);
        Step::Stopped
    }

    /// Puts the chain into the used ring, with `len` bytes written; tells `report` if the
    /// driver has made that impossible.
    pub fn complete<M: GuestMemory>(
        self,
        mem: &M,
        lost: &Lost,
        queue: &mut Queue,
        len: u32,
        report: impl Fn(RingFault),
    ) -> Step {
        // The driver must not take for done what may have met other memory.
        if lost.is_lost() {
            return Step::Broken;
        }
        if queue.add_used(mem, self.head, len).is_err() {
            report(RingFault::UsedRing);
            return Step::Broken;
        }
        Step::Used {
            notify: wants_notification(mem, queue),
        }
    }
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
