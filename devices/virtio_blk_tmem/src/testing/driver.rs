// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver that makes one request at a time.

use std::sync::Arc;

use virtio_queue::Queue;
use virtio_serve::Step;
use virtio_serve::testing::{DriverQueue, Layout, Span};
use vm_memory::{Bytes, GuestAddress, GuestMemory};

use crate::{Disk, RequestQueue, Served};

/// The bytes of a request before its data: type, reserved, sector.
pub fn request(kind: u32, sector: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&sector.to_le_bytes());
    bytes
}

/// A range of a discard or write-zeroes request: sector, number of sectors, flags.
pub fn range(sector: u64, sectors: u32, flags: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&sector.to_le_bytes());
    bytes[8..12].copy_from_slice(&sectors.to_le_bytes());
    bytes[12..].copy_from_slice(&flags.to_le_bytes());
    bytes
}

/// What the device wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Bytes that the device says it wrote.
    pub used: u32,
    /// The status, or [`Answer::UNTOUCHED`].
    pub status: u8,
    /// The device-writable bytes before it; those not written are [`Answer::UNTOUCHED`].
    pub data: Vec<u8>,
}

impl Answer {
    /// What is in the buffers before the device writes to them.
    pub const UNTOUCHED: u8 = 0xA5;
    /// VIRTIO_BLK_S_OK
    pub const OK: u8 = 0;
    /// VIRTIO_BLK_S_IOERR
    pub const IOERR: u8 = 1;
    /// VIRTIO_BLK_S_UNSUPP
    pub const UNSUPP: u8 = 2;
}

/// Makes requests of a disk in this process, one at a time.
#[derive(Debug)]
pub struct Driver<'m, M> {
    mem: &'m M,
    disk: Arc<Disk>,
    ring: DriverQueue<'m, M>,
    side: Queue,
    queue: RequestQueue,
    area: u64,
}

impl<'m, M: GuestMemory> Driver<'m, M> {
    /// Guest memory that a driver needs, in bytes.
    pub const AREA: u64 = 4 * Self::PART;
    /// Its ring, the bytes sent, those received, and an indirect table.
    const PART: u64 = 2 << 20;

    /// A driver of `disk` that uses [`Driver::AREA`] bytes from `area`, and a queue of `size`.
    pub fn new(mem: &'m M, disk: &Arc<Disk>, area: u64, size: u16) -> Self {
        let ring = DriverQueue::new(mem, area, size, true);
        Self {
            mem,
            disk: disk.clone(),
            side: ring.device_side(),
            queue: RequestQueue::default(),
            ring,
            area,
        }
    }

    /// The disk.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// The ring, to do with it what nobody should.
    pub fn ring(&mut self) -> &mut DriverQueue<'m, M> {
        &mut self.ring
    }

    /// Where the bytes are that are sent, and the room for those that are received.
    pub fn places(&self) -> [u64; 2] {
        [self.area + Self::PART, self.area + 2 * Self::PART]
    }

    /// One step of the device, which may go on as long as `go_on` says.
    pub fn step(&mut self, go_on: &mut dyn FnMut() -> bool) -> Step {
        self.queue.step(&self.disk, self.mem, &mut self.side, go_on)
    }

    /// What the last step has served.
    pub fn served(&mut self) -> Option<Served> {
        self.queue.served()
    }

    /// Writes what is to be sent, and room for `room` bytes and a status; the spans of both.
    pub fn lay_out(&self, sent: &[u8], room: usize, layout: &Layout) -> [Vec<Span>; 2] {
        let [from, to] = self.places();
        self.mem.write_slice(sent, GuestAddress(from)).unwrap();
        let untouched = vec![Answer::UNTOUCHED; room + 1];
        self.mem.write_slice(&untouched, GuestAddress(to)).unwrap();
        let readable = Span::cut(from, sent.len(), &layout.readable);
        let writable = Span::cut(to, room + 1, &layout.writable);
        [readable, writable]
    }

    /// Makes a request available; `None` if there is no room in the ring.
    pub fn add(&mut self, readable: &[Span], writable: &[Span], indirect: bool) -> Option<u16> {
        let table = self.area + 3 * Self::PART;
        match indirect {
            true => self.ring.add_indirect(table, readable, writable),
            false => self.ring.add(readable, writable),
        }
    }

    /// What was written to the room of the last request, which had `room` bytes and a status.
    pub fn answer(&self, used: u32, room: usize) -> Answer {
        let mut data = vec![0; room + 1];
        let place = GuestAddress(self.places()[1]);
        self.mem.read_slice(&mut data, place).unwrap();
        let status = data.pop().unwrap();
        Answer { used, status, data }
    }

    /// Runs the device until it has used what was made available; the used length.
    pub fn run(&mut self) -> u32 {
        loop {
            if let Some(used) = self.ring.pop_used() {
                return used.len;
            }
            let step = self.step(&mut || true);
            assert!(matches!(step, Step::Used { .. }), "{step:?}");
        }
    }

    /// Makes a request of `sent`, with room for `room` bytes and a status.
    pub fn call(&mut self, sent: &[u8], room: usize, layout: &Layout) -> Answer {
        let [readable, writable] = self.lay_out(sent, room, layout);
        self.add(&readable, &writable, layout.indirect)
            .expect("a driver that waits for each answer has free descriptors");
        let used = self.run();
        self.answer(used, room)
    }

    fn simple(&mut self, kind: u32, sector: u64, data: &[u8], room: usize) -> Answer {
        let sent = [&request(kind, sector)[..], data].concat();
        self.call(&sent, room, &Layout::default())
    }

    /// VIRTIO_BLK_T_IN
    pub fn read(&mut self, sector: u64, sectors: usize) -> Answer {
        self.simple(0, sector, &[], 512 * sectors)
    }

    /// VIRTIO_BLK_T_OUT; the status.
    pub fn write(&mut self, sector: u64, data: &[u8]) -> u8 {
        self.simple(1, sector, data, 0).status
    }

    /// VIRTIO_BLK_T_FLUSH
    pub fn flush(&mut self) -> u8 {
        self.simple(4, 0, &[], 0).status
    }

    /// VIRTIO_BLK_T_GET_ID
    pub fn id(&mut self) -> Answer {
        self.simple(8, 0, &[], 20)
    }

    /// VIRTIO_BLK_T_DISCARD of ranges
    pub fn discard(&mut self, ranges: &[[u8; 16]]) -> u8 {
        self.simple(11, 0, ranges.as_flattened(), 0).status
    }

    /// VIRTIO_BLK_T_WRITE_ZEROES of ranges
    pub fn write_zeroes(&mut self, ranges: &[[u8; 16]]) -> u8 {
        self.simple(13, 0, ranges.as_flattened(), 0).status
    }
}
