// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A queue as a device works on it: chains out, used buffers in.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

use thiserror::Error;
use tmem_host::personality::{self, GoOn, Handler, Lane, Poller, Step};
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use virtio_tmem::device::wants_notification;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};
use vmm_sys_util::eventfd::EventFd;

use super::{ActiveQueue, Interrupt, Memory};
use crate::event;

/// How long chains are served before others get their turn: a driver that
/// never stops could otherwise hold up its own reset. Also how long used
/// buffers can wait for the driver to be told, beside the last chain.
const TURN: Duration = Duration::from_millis(2);

/// What a driver did wrong with a chain. The chain is used with length 0.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum QueueError {
    /// A buffer lies outside the guest's memory, at least in part.
    #[error("a buffer lies outside memory")]
    Unmapped,
    /// A readable buffer follows a writable one (virtio 1.2, section 2.7.4.2).
    #[error("a readable buffer follows a writable one")]
    Order,
}

/// The buffers of a chain, as its descriptors say, once read.
#[derive(Debug)]
pub struct Chain<'a> {
    head: u16,
    /// What the device may read, in order.
    pub readable: Vec<VolatileSlice<'a>>,
    /// What the device may write, in order.
    pub writable: Vec<VolatileSlice<'a>>,
}

impl<'a> Chain<'a> {
    fn new(
        memory: &'a GuestMemoryMmap,
        chain: DescriptorChain<&'a GuestMemoryMmap>,
    ) -> Result<Self, QueueError> {
        let mut buffers = Self {
            head: chain.head_index(),
            readable: Vec::new(),
            writable: Vec::new(),
        };
        for descriptor in chain {
            let writable = descriptor.is_write_only();
            if !writable && !buffers.writable.is_empty() {
                return Err(QueueError::Order);
            }
            // A buffer may cross from one memory region into the next.
            for slice in memory.get_slices(descriptor.addr(), descriptor.len() as usize) {
                let slice = slice.map_err(|_| QueueError::Unmapped)?;
                if writable {
                    buffers.writable.push(slice);
                } else {
                    buffers.readable.push(slice);
                }
            }
        }
        Ok(buffers)
    }

    /// Names the chain in [`ServedQueue::complete`].
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Takes the first `to.len()` readable bytes; `false` if there are fewer.
    pub fn read(&mut self, to: &mut [u8]) -> bool {
        let mut to = to;
        take_front(&mut self.readable, |slice| {
            let count = slice.copy_to(&mut *to);
            to = std::mem::take(&mut to).get_mut(count..).unwrap_or_default();
            count
        });
        to.is_empty()
    }

    /// Writes `from` where the first writable bytes are; returns how many
    /// there was room for.
    pub fn write(&mut self, from: &[u8]) -> usize {
        let mut rest = from;
        take_front(&mut self.writable, |slice| {
            let count = rest.len().min(slice.len());
            slice.copy_from(rest);
            rest = rest.get(count..).unwrap_or_default();
            count
        });
        from.len() - rest.len()
    }

    /// Takes the last writable byte away and gives it back: where a block
    /// device's status goes.
    pub fn split_last_writable(&mut self) -> Option<VolatileSlice<'a>> {
        while self.writable.last().is_some_and(VolatileSlice::is_empty) {
            self.writable.pop();
        }
        let last = self.writable.pop()?;
        let at = last.len().checked_sub(1)?;
        let (rest, byte) = last.split_at(at).ok()?;
        if !rest.is_empty() {
            self.writable.push(rest);
        }
        Some(byte)
    }
}

/// Bytes in `slices`.
pub fn total(slices: &[VolatileSlice<'_>]) -> u64 {
    slices.iter().map(|slice| slice.len() as u64).sum()
}

/// Takes off the front what `transfer` has transferred, which says how many
/// bytes of a slice that are; less than all of them are the last. All at once:
/// a chain can have 65,535 buffers.
fn take_front<'a>(
    slices: &mut Vec<VolatileSlice<'a>>,
    mut transfer: impl FnMut(&VolatileSlice<'a>) -> usize,
) {
    let mut whole = 0;
    for slice in slices.iter_mut() {
        let count = transfer(slice);
        if count < slice.len() {
            if let Ok(rest) = slice.offset(count) {
                *slice = rest;
            }
            break;
        }
        whole += 1;
    }
    slices.drain(..whole);
}

/// A queue with what it takes to serve it.
#[derive(Debug)]
pub struct ServedQueue {
    queue: Queue,
    kick: Arc<EventFd>,
    memory: Memory,
    interrupt: Arc<Interrupt>,
    /// Buffers were used, and the driver wants to hear of them.
    unsaid: bool,
}

impl ServedQueue {
    /// Serves `active` for as long as the driver keeps it.
    pub fn new(active: ActiveQueue, memory: Memory, interrupt: Arc<Interrupt>) -> Self {
        Self {
            queue: active.queue,
            kick: active.kick,
            memory,
            interrupt,
            unsaid: false,
        }
    }

    /// Readable when the driver has notified.
    pub fn kick(&self) -> BorrowedFd<'_> {
        event::fd(&self.kick)
    }

    /// The same, to be kept.
    pub(super) fn kick_file(&self) -> Arc<EventFd> {
        self.kick.clone()
    }

    /// Takes the notification.
    pub fn kicked(&self) {
        event::take(&self.kick);
    }

    /// Has `handler` work through the queue for a turn, for as long as it may `go_on`.
    pub(super) fn turn(&mut self, handler: &mut dyn Handler, go_on: &dyn Fn() -> bool) {
        let mut turn = Turn {
            queue: self,
            go_on,
            began: Instant::now(),
        };
        if personality::serve(handler, &mut turn, &mut Poller::never()) {
            // For the thread that hears of notifications.
            event::set(&self.kick);
        }
    }

    /// Takes the next available chain; `Err`: the head of one that makes no
    /// sense. `None` when there is none, or when the rings make no sense.
    pub fn next<'a>(&mut self, memory: &'a GuestMemoryMmap) -> Option<Result<Chain<'a>, u16>> {
        let (head, chain) = next(&mut self.queue, memory)?;
        Some(chain.map_err(|_| head))
    }

    /// Descriptors of the queue.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Puts the last `count` chains taken back, to be taken again.
    pub fn put_back(&mut self, count: u16) {
        let next = self.queue.next_avail().wrapping_sub(count);
        self.queue.set_next_avail(next);
    }

    /// The guest's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Asks for no more notifications.
    pub fn quiet(&mut self) {
        // Rings outside memory: needless notifications at worst.
        let _ = self.queue.disable_notification(&*self.memory);
    }

    /// Asks for notifications again; `true` if chains came meanwhile.
    pub fn wait_for_more(&mut self) -> bool {
        self.queue
            .enable_notification(&*self.memory)
            .unwrap_or(false)
    }

    /// Gives a chain back, of which the device wrote `len` bytes.
    pub fn complete(&mut self, head: u16, len: u32) {
        if self.queue.add_used(&*self.memory, head, len).is_ok() {
            self.unsaid |= wants_notification(&*self.memory, &mut self.queue);
        }
    }

    /// Gives several chains back, with the bytes written to each: the driver
    /// sees all of them used, or none (virtio 1.2, section 5.1.6.4.2).
    pub fn complete_together(&mut self, chains: &[(u16, u32)]) {
        let Some(((last, len), others)) = chains.split_last() else {
            return;
        };
        let first = self.queue.next_used();
        let mut next = first;
        for (head, len) in others {
            // Not seen before the index goes beyond it.
            let element = [u32::from(*head).to_le(), len.to_le()];
            let slot = u64::from(next % self.queue.size());
            let at = GuestAddress(self.queue.used_ring() + 4 + 8 * slot);
            // Fails if the ring is not in memory; then so does the index.
            let _ = self.memory.write_obj(element, at);
            next = next.wrapping_add(1);
        }
        self.queue.set_next_used(next);
        self.complete(*last, *len);
        // Of the others, virtio-queue does not know.
        if self.queue.event_idx_enabled() {
            let size = u64::from(self.queue.size());
            let at = GuestAddress(self.queue.avail_ring() + 4 + 2 * size);
            let awaited: u16 = self.memory.load(at, Relaxed).unwrap_or(first);
            let others = next.wrapping_sub(first);
            self.unsaid |= u16::from_le(awaited).wrapping_sub(first) < others;
        }
    }

    /// Tells the driver of what was completed, if it wants to hear of it.
    pub fn signal(&mut self) {
        if std::mem::take(&mut self.unsaid) {
            self.interrupt.used();
        }
    }
}

/// A queue in use.
struct Turn<'a> {
    queue: &'a mut ServedQueue,
    go_on: &'a dyn Fn() -> bool,
    began: Instant,
}

impl Lane for Turn<'_> {
    fn with<R>(&mut self, with: impl FnOnce(&GuestMemoryMmap, &mut Queue, GoOn<'_>) -> R) -> R {
        // Not after a turn: what starts over each time would never end.
        let mut go_on = self.go_on;
        with(&self.queue.memory, &mut self.queue.queue, &mut go_on)
    }

    fn signal(&mut self) {
        self.queue.interrupt.used();
    }

    fn is_wanted(&mut self) -> bool {
        self.began.elapsed() >= TURN || !(self.go_on)()
    }
}

/// A handler of chains, one after the other, by a function that returns how many bytes it
/// wrote there. Chains that make no sense are used with length 0.
pub(super) struct Chains<F>(pub(super) F);

impl<F: FnMut(&mut Chain<'_>) -> u32 + Send> Handler for Chains<F> {
    fn step(&mut self, memory: &GuestMemoryMmap, queue: &mut Queue, _go_on: GoOn<'_>) -> Step {
        let there = queue.avail_idx(memory, Acquire);
        if there.is_ok_and(|there| there.0 == queue.next_avail()) {
            return Step::Idle;
        }
        let Some((head, chain)) = next(queue, memory) else {
            return Step::Broken;
        };
        let written = chain.map_or(0, |mut chain| (self.0)(&mut chain));
        if queue.add_used(memory, head, written).is_err() {
            return Step::Skipped;
        }
        Step::Used {
            notify: wants_notification(memory, queue),
        }
    }
}

/// Takes the next available chain, and its head.
fn next<'a>(
    queue: &mut Queue,
    memory: &'a GuestMemoryMmap,
) -> Option<(u16, Result<Chain<'a>, QueueError>)> {
    let chain = queue.iter(memory).ok()?.next()?;
    Some((chain.head_index(), Chain::new(memory, chain)))
}
