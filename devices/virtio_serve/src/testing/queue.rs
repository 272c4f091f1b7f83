// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A split virtqueue, from the driver's side.

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::bindings::virtio_ring::{
    VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_USED_F_NO_NOTIFY,
};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory};

/// A stretch of guest memory, as a descriptor names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Guest physical address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
}

impl Span {
    /// `len` bytes from `addr`, cut at `cuts` (in any order, those outside are
    /// ignored).
    pub fn cut(addr: u64, len: usize, cuts: &[u32]) -> Vec<Self> {
        let len = len as u32;
        let mut cuts: Vec<u32> = cuts.iter().copied().filter(|cut| *cut < len).collect();
        cuts.push(0);
        cuts.sort_unstable();
        cuts.dedup();
        let ends = cuts.iter().skip(1).copied().chain([len]);
        cuts.iter()
            .zip(ends)
            .filter(|(start, end)| end > start)
            .map(|(start, end)| Self {
                addr: addr + u64::from(*start),
                len: end - start,
            })
            .collect()
    }
}

/// A buffer that the device has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Head of its chain.
    pub head: u16,
    /// Bytes that the device says it wrote.
    pub len: u32,
}

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;
const DESCRIPTOR: u64 = 16;

/// A driver's split virtqueue in guest memory.
#[derive(Debug)]
pub struct DriverQueue<'m, M> {
    mem: &'m M,
    base: u64,
    size: u16,
    event_idx: bool,
    free: Vec<u16>,
    /// Descriptors of the chain that begins at an index.
    chains: Vec<Vec<u16>>,
    next_avail: u16,
    last_used: u16,
    /// `next_avail` when the device was last kicked.
    kicked: u16,
}

impl<'m, M: GuestMemory> DriverQueue<'m, M> {
    /// Bytes of guest memory that a queue of `size` descriptors takes.
    pub fn footprint(size: u16) -> u64 {
        let size = u64::from(size);
        size * DESCRIPTOR + (6 + 2 * size).next_multiple_of(8) + 6 + 8 * size
    }

    /// Lays out an empty queue of `size` descriptors at `base`, which must be
    /// a multiple of 16.
    pub fn new(mem: &'m M, base: u64, size: u16, event_idx: bool) -> Self {
        assert!(base.is_multiple_of(16), "descriptor tables are aligned");
        let zeros = vec![0; Self::footprint(size) as usize];
        mem.write_slice(&zeros, GuestAddress(base)).unwrap();
        Self {
            mem,
            base,
            size,
            event_idx,
            free: (0..size).rev().collect(),
            chains: vec![Vec::new(); usize::from(size)],
            next_avail: 0,
            last_used: 0,
            kicked: 0,
        }
    }

    /// Address of the descriptor table.
    pub fn desc_table(&self) -> u64 {
        self.base
    }

    /// Address of the available ring.
    pub fn avail_ring(&self) -> u64 {
        self.base + DESCRIPTOR * u64::from(self.size)
    }

    /// Address of the used ring.
    pub fn used_ring(&self) -> u64 {
        self.avail_ring() + (6 + 2 * u64::from(self.size)).next_multiple_of(8)
    }

    /// Descriptors.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Descriptors that are not in use.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The same queue, from the device's side.
    pub fn device_side(&self) -> Queue {
        let mut queue = Queue::new(self.size).unwrap();
        let halves = |addr: u64| (Some(addr as u32), Some((addr >> 32) as u32));
        let (low, high) = halves(self.desc_table());
        queue.set_desc_table_address(low, high);
        let (low, high) = halves(self.avail_ring());
        queue.set_avail_ring_address(low, high);
        let (low, high) = halves(self.used_ring());
        queue.set_used_ring_address(low, high);
        queue.set_event_idx(self.event_idx);
        queue.set_ready(true);
        queue
    }

    /// Writes one descriptor, whatever it says.
    pub fn set_descriptor(&self, at: u16, span: Span, flags: u16, next: u16) {
        let addr = self.desc_table() + DESCRIPTOR * u64::from(at);
        self.write_descriptor(addr, span, flags, next);
    }

    fn write_descriptor(&self, addr: u64, span: Span, flags: u16, next: u16) {
        let mut bytes = [0; DESCRIPTOR as usize];
        bytes[..8].copy_from_slice(&span.addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&span.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.mem.write_slice(&bytes, GuestAddress(addr)).unwrap();
    }

    /// Makes the chain that begins at descriptor `head` available, whatever
    /// it is.
    pub fn push(&mut self, head: u16) {
        let slot = self.avail_ring() + 4 + 2 * u64::from(self.next_avail % self.size);
        self.mem
            .write_slice(&head.to_le_bytes(), GuestAddress(slot))
            .unwrap();
        self.set_avail_idx(self.next_avail.wrapping_add(1));
    }

    /// Sets the available index, whatever it says.
    pub fn set_avail_idx(&mut self, index: u16) {
        self.next_avail = index;
        self.mem
            .store(
                index.to_le(),
                GuestAddress(self.avail_ring() + 2),
                Ordering::Release,
            )
            .unwrap();
    }

    /// The available index.
    pub fn avail_idx(&self) -> u16 {
        self.next_avail
    }

    /// Makes a buffer available: the `readable` spans, then the `writable`
    /// ones, as descriptors of the queue's table. `None` if too few are free.
    pub fn add(&mut self, readable: &[Span], writable: &[Span]) -> Option<u16> {
        let spans = flagged(readable, writable);
        if spans.is_empty() || self.free.len() < spans.len() {
            return None;
        }
        let chain = self.free.split_off(self.free.len() - spans.len());
        for (nth, (span, flags)) in spans.iter().enumerate() {
            match chain.get(nth + 1) {
                Some(next) => self.set_descriptor(chain[nth], *span, flags | NEXT, *next),
                None => self.set_descriptor(chain[nth], *span, *flags, 0),
            }
        }
        Some(self.publish(chain))
    }

    /// Like [`DriverQueue::add`], with the descriptors in an indirect table
    /// that is written to `table`.
    pub fn add_indirect(
        &mut self,
        table: u64,
        readable: &[Span],
        writable: &[Span],
    ) -> Option<u16> {
        let spans = flagged(readable, writable);
        let descriptor = self.free.pop()?;
        for (nth, (span, flags)) in spans.iter().enumerate() {
            let last = nth + 1 == spans.len();
            let flags = if last { *flags } else { flags | NEXT };
            let next = if last { 0 } else { nth as u16 + 1 };
            self.write_descriptor(table + DESCRIPTOR * nth as u64, *span, flags, next);
        }
        let span = Span {
            addr: table,
            len: (DESCRIPTOR as usize * spans.len()) as u32,
        };
        self.set_descriptor(descriptor, span, INDIRECT, 0);
        Some(self.publish(vec![descriptor]))
    }

    fn publish(&mut self, chain: Vec<u16>) -> u16 {
        let head = chain[0];
        self.chains[usize::from(head)] = chain;
        self.push(head);
        head
    }

    /// The next buffer that the device has used, if any. Asks for a
    /// notification of the one after it.
    pub fn pop_used(&mut self) -> Option<Used> {
        let index = self.used_idx();
        if index == self.last_used {
            return None;
        }
        let element = self.used_ring() + 4 + 8 * u64::from(self.last_used % self.size);
        let mut bytes = [0; 8];
        self.mem
            .read_slice(&mut bytes, GuestAddress(element))
            .unwrap();
        self.last_used = self.last_used.wrapping_add(1);
        if self.event_idx {
            self.want_notification_after(0);
        }
        let head = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as u16;
        let len = u32::from_le_bytes(bytes[4..].try_into().unwrap());
        if let Some(chain) = self.chains.get_mut(usize::from(head)) {
            self.free.append(chain);
        }
        Some(Used { head, len })
    }

    /// With EVENT_IDX: asks for a notification once `more` buffers have been
    /// used beside the next one.
    pub fn want_notification_after(&self, more: u16) {
        let used_event = self.avail_ring() + 4 + 2 * u64::from(self.size);
        let at = self.last_used.wrapping_add(more);
        self.mem
            .store(at.to_le(), GuestAddress(used_event), Ordering::SeqCst)
            .unwrap();
        fence(Ordering::SeqCst);
    }

    /// The device's used index.
    pub fn used_idx(&self) -> u16 {
        let index: u16 = self
            .mem
            .load(GuestAddress(self.used_ring() + 2), Ordering::Acquire)
            .unwrap();
        u16::from_le(index)
    }

    /// Whether the device wants a kick for what was made available since the
    /// last call.
    pub fn needs_kick(&mut self) -> bool {
        fence(Ordering::SeqCst);
        let old = std::mem::replace(&mut self.kicked, self.next_avail);
        let load = |addr| -> u16 {
            let value: u16 = self.mem.load(GuestAddress(addr), Ordering::SeqCst).unwrap();
            u16::from_le(value)
        };
        if self.event_idx {
            let event = load(self.used_ring() + 4 + 8 * u64::from(self.size));
            self.next_avail.wrapping_sub(event).wrapping_sub(1) < self.next_avail.wrapping_sub(old)
        } else {
            load(self.used_ring()) & VRING_USED_F_NO_NOTIFY as u16 == 0
        }
    }
}

fn flagged(readable: &[Span], writable: &[Span]) -> Vec<(Span, u16)> {
    let readable = readable.iter().map(|span| (*span, 0));
    let writable = writable.iter().map(|span| (*span, WRITE));
    readable.chain(writable).collect()
}
