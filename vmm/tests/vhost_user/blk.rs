// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver of a disk (virtio 1.2, section 5.2.6).

use virtio_blk_tmem::wire::{SPACE, Space};
use virtio_tmem::testing::{DriverQueue, Span, Transport};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::guest::{Bell, Guest};

pub(crate) const OK: u8 = 0;
pub(crate) const IO_ERROR: u8 = 1;

/// What is asked for, as the header says it.
const IN: u32 = 0;
const OUT: u32 = 1;

/// Where requests are in guest memory, and how much each has: header, status, a block.
const AREA: u64 = 16 << 20;
const EACH: u64 = 0x4000;
const STATUS: u64 = 0x100;
const DATA: u64 = 0x1000;

/// The configuration space as the guest's driver reads it.
pub(crate) fn space(guest: &Guest) -> Space {
    Space::decode(&guest.space::<SPACE>())
}

/// One queue of the driver.
pub(crate) struct Blk<'g> {
    guest: &'g Guest,
    queue: DriverQueue<'g, GuestMemoryMmap>,
    bell: Bell,
}

impl<'g> Blk<'g> {
    /// Makes the driver ready with as many queues as the device shows, and gives them.
    pub(crate) fn start(guest: &'g Guest) -> Vec<Self> {
        let features = guest.features();
        let queues = space(guest).num_queues;
        let queues = guest.start_as(features, queues);
        let lane = |(index, queue)| Self {
            guest,
            queue,
            bell: guest.bell(index),
        };
        (0..).zip(queues).map(lane).collect()
    }

    /// The same, and its first queue.
    pub(crate) fn first(guest: &'g Guest) -> Self {
        Self::start(guest).swap_remove(0)
    }

    /// Lays out request number `nth` at a time and makes it available; nobody is notified.
    pub(crate) fn add(&mut self, nth: u64, kind: u32, block: u64, content: &[u8; 4096]) {
        let at = AREA + nth * EACH;
        let mut header = kind.to_le_bytes().to_vec();
        header.extend(0u32.to_le_bytes());
        header.extend((8 * block).to_le_bytes());
        let put = |offset, bytes: &[u8]| {
            let to = GuestAddress(at + offset);
            self.guest.memory.write_slice(bytes, to).unwrap();
        };
        put(0, &header);
        put(STATUS, &[0xee]);
        put(DATA, content);
        let span = |offset, len| Span {
            addr: at + offset,
            len,
        };
        let (header, status, data) = (span(0, 16), span(STATUS, 1), span(DATA, 4096));
        let added = match kind {
            IN => self.queue.add(&[header], &[data, status]),
            _ => self.queue.add(&[header, data], &[status]),
        };
        added.unwrap();
    }

    pub(crate) fn add_read(&mut self, nth: u64, block: u64) {
        self.add(nth, IN, block, &[0xcc; 4096]);
    }

    pub(crate) fn add_write(&mut self, nth: u64, block: u64, content: &[u8; 4096]) {
        self.add(nth, OUT, block, content);
    }

    pub(crate) fn kick(&mut self) {
        self.bell.kick();
    }

    /// Waits for the next one that is used.
    pub(crate) fn wait(&mut self) {
        while self.queue.pop_used().is_none() {
            self.bell.wait();
        }
    }

    /// Status and data of request number `nth`.
    pub(crate) fn answer(&self, nth: u64) -> (u8, [u8; 4096]) {
        let (mut status, mut data) = ([0], [0; 4096]);
        let at = AREA + nth * EACH;
        let memory = &self.guest.memory;
        memory
            .read_slice(&mut status, GuestAddress(at + STATUS))
            .unwrap();
        memory
            .read_slice(&mut data, GuestAddress(at + DATA))
            .unwrap();
        (status[0], data)
    }

    /// Writes a block; the status.
    pub(crate) fn write(&mut self, block: u64, content: &[u8; 4096]) -> u8 {
        self.add_write(0, block, content);
        self.kick();
        self.wait();
        self.answer(0).0
    }

    /// Reads a block.
    pub(crate) fn read(&mut self, block: u64) -> (u8, [u8; 4096]) {
        self.add_read(0, block);
        self.kick();
        self.wait();
        self.answer(0)
    }
}
