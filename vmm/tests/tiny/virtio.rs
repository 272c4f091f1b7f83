// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A virtio driver in a guest's program (virtio 1.2, sections 2.7 and 4.2).
//!
//! Queues are written by the test, as data of the guest: all requests that it
//! will make, in order. The program makes one after the other available.

use tmem_vmm::machine::layout;
use tmem_vmm::virtio::mmio;
use virtio_bindings::bindings::virtio_mmio as register;

use crate::asm::Width;
use crate::guest::Guest;

/// Descriptors of a queue.
const SIZE: u16 = 16;

/// Flags of a descriptor.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Steps of a driver's start (virtio 1.2, section 3.1.1).
const DRIVER: u32 = 0b0011;
const FEATURES_OK: u32 = 0b1011;
const DRIVER_OK: u32 = 0b1111;

/// A device by its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device(pub(crate) u64);

/// A queue and its requests.
#[derive(Debug)]
pub(crate) struct Queue {
    index: u32,
    /// Addresses of its parts.
    descriptors: u64,
    available: u64,
    used: u64,
    /// Descriptors and requests so far.
    filled: u16,
    requests: u16,
    /// Requests that the program has made so far.
    made: u16,
}

impl Device {
    /// The address of a register.
    pub(crate) fn at(self, register: u32) -> u64 {
        layout::VIRTIO + self.0 * mmio::SIZE + u64::from(register)
    }

    pub(crate) fn write(self, guest: &mut Guest, register: u32, value: u32) {
        guest.write(Width::Four, self.at(register), value.into());
    }

    fn expect(self, guest: &mut Guest, what: &str, register: u32, value: u32) {
        guest.read(Width::Four, self.at(register));
        guest.expect(what, value.into());
    }

    /// Looks whether the device is the one with `id`, and starts to drive it.
    pub(crate) fn negotiate(self, guest: &mut Guest, id: u32) {
        let magic = u32::from_le_bytes(*b"virt");
        self.expect(guest, "magic", register::VIRTIO_MMIO_MAGIC_VALUE, magic);
        self.expect(guest, "version", register::VIRTIO_MMIO_VERSION, 2);
        self.expect(guest, "device id", register::VIRTIO_MMIO_DEVICE_ID, id);
        for (register, value) in [
            (register::VIRTIO_MMIO_STATUS, 0),
            (register::VIRTIO_MMIO_STATUS, DRIVER),
            // VIRTIO_F_VERSION_1, and no other feature.
            (register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1),
            (register::VIRTIO_MMIO_DRIVER_FEATURES, 1),
            (register::VIRTIO_MMIO_STATUS, FEATURES_OK),
        ] {
            self.write(guest, register, value);
        }
        let status = register::VIRTIO_MMIO_STATUS;
        self.expect(guest, "features", status, FEATURES_OK);
    }

    /// Tells the device where `queue` is.
    pub(crate) fn enable(self, guest: &mut Guest, queue: &Queue) {
        self.write(guest, register::VIRTIO_MMIO_QUEUE_SEL, queue.index);
        self.write(guest, register::VIRTIO_MMIO_QUEUE_NUM, SIZE.into());
        for (register, address) in [
            (register::VIRTIO_MMIO_QUEUE_DESC_LOW, queue.descriptors),
            (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, queue.available),
            (register::VIRTIO_MMIO_QUEUE_USED_LOW, queue.used),
        ] {
            self.write(guest, register, address as u32);
            self.write(guest, register + 4, (address >> 32) as u32);
        }
        self.write(guest, register::VIRTIO_MMIO_QUEUE_READY, 1);
    }

    /// Lets the device begin.
    pub(crate) fn run(self, guest: &mut Guest) {
        let status = register::VIRTIO_MMIO_STATUS;
        self.write(guest, status, DRIVER_OK);
        self.expect(guest, "status", status, DRIVER_OK);
    }

    /// Makes the next request of `queue` available, and tells the device.
    pub(crate) fn request(self, guest: &mut Guest, queue: &mut Queue) {
        queue.made += 1;
        assert!(queue.made <= queue.requests, "there are no more requests");
        guest.write(Width::Two, queue.available + 2, queue.made.into());
        self.write(guest, register::VIRTIO_MMIO_QUEUE_NOTIFY, queue.index);
    }

    /// Waits until all requests that were made are answered.
    pub(crate) fn wait(self, guest: &mut Guest, queue: &Queue) {
        guest.wait_for(Width::Two, queue.used + 2, queue.made.into());
    }

    /// Waits for the device's interrupt, which does not reach the processor,
    /// and acknowledges it.
    pub(crate) fn interrupt(self, guest: &mut Guest) {
        let status = register::VIRTIO_MMIO_INTERRUPT_STATUS;
        guest.wait_for(Width::Four, self.at(status), 1);
        self.write(guest, register::VIRTIO_MMIO_INTERRUPT_ACK, 1);
        self.expect(guest, "acknowledged", status, 0);
    }
}

impl Queue {
    /// A queue without requests.
    pub(crate) fn new(guest: &mut Guest, index: u32) -> Self {
        let size = usize::from(SIZE);
        Self {
            index,
            descriptors: guest.space(16 * size, 0, 16),
            available: guest.space(6 + 2 * size, 0, 2),
            used: guest.space(6 + 8 * size, 0, 4),
            filled: 0,
            requests: 0,
            made: 0,
        }
    }

    /// Adds a request: what the device may read, then room for so many bytes
    /// that it may write. Returns the address of that.
    pub(crate) fn add(&mut self, guest: &mut Guest, readable: &[&[u8]], room: usize) -> u64 {
        let readable = readable
            .iter()
            .map(|part| (guest.put(part, 16), part.len(), false));
        let mut parts: Vec<_> = readable.collect();
        // What is not written stays.
        let answer = guest.space(room, 0xee, 16);
        if room > 0 {
            parts.push((answer, room, true));
        }
        self.add_chain(guest, &parts);
        answer
    }

    /// Adds a request in these parts: where each is, its bytes, and whether the device
    /// may write it.
    pub(crate) fn add_chain(&mut self, guest: &mut Guest, parts: &[(u64, usize, bool)]) {
        let entry = self.available + 4 + 2 * u64::from(self.requests);
        guest.poke(entry, &self.filled.to_le_bytes());
        self.requests += 1;
        for (nth, (at, len, writable)) in (1..).zip(parts) {
            let next = if nth == parts.len() { 0 } else { NEXT };
            let write = if *writable { WRITE } else { 0 };
            self.descriptor(guest, *at, *len, write | next);
        }
    }

    /// Adds a request that can be made as often as one likes; the last one to
    /// be added. Returns the addresses of what the device may read, and write.
    pub(crate) fn add_for_ever(
        &mut self,
        guest: &mut Guest,
        readable: &[u8],
        room: usize,
    ) -> (u64, u64) {
        let at = guest.put(readable, 16);
        let head = self.filled;
        let answer = guest.space(room, 0xee, 16);
        self.descriptor(guest, at, readable.len(), NEXT);
        self.descriptor(guest, answer, room, WRITE);
        for made in self.requests..self.requests + SIZE {
            let entry = self.available + 4 + 2 * u64::from(made % SIZE);
            guest.poke(entry, &head.to_le_bytes());
        }
        self.requests = u16::MAX;
        (at, answer)
    }

    /// Adds a descriptor, which goes on in the next one if it goes on.
    fn descriptor(&mut self, guest: &mut Guest, at: u64, len: usize, flags: u16) {
        assert!(self.filled < SIZE, "the queue is full");
        let entry = self.descriptors + 16 * u64::from(self.filled);
        self.filled += 1;
        guest.poke(entry, &at.to_le_bytes());
        guest.poke(entry + 8, &(len as u32).to_le_bytes());
        guest.poke(entry + 12, &flags.to_le_bytes());
        guest.poke(entry + 14, &self.filled.to_le_bytes());
    }
}
