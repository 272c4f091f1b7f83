// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver that makes one request at a time.

use tmem_store::Page;
use vm_memory::{Bytes, GuestAddress, GuestMemory};

use super::guest::{header, request};
use tmem_wire::{
    AnswerHeader, Extent, Limits, MemoryRange, ObjectId, Op, PAGE_SIZE, PoolKind, PoolSpec,
    RequestFlags, ShareId, Status,
};
use virtio_serve::testing::{DriverQueue, Layout, Span};

/// How the device hears of the driver and the driver of the device.
pub trait Transport {
    /// Tells the device that buffers are available.
    fn kick(&mut self);

    /// Waits until the device may have used a buffer.
    fn wait(&mut self);
}

/// What the device wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Bytes that the device says it wrote.
    pub used: u32,
    /// All device-writable bytes; those not written are [`Answer::UNTOUCHED`].
    pub bytes: Vec<u8>,
}

impl Answer {
    /// What is in the buffer before the device writes to it.
    pub const UNTOUCHED: u8 = 0xA5;

    /// The answer's header.
    pub fn header(&self) -> AnswerHeader {
        AnswerHeader::decode(self.bytes[..AnswerHeader::SIZE].try_into().unwrap())
    }

    /// Status of the request.
    pub fn status(&self) -> Status {
        self.header().status
    }

    /// Statuses of `count` pages or ranges.
    pub fn pages(&self, count: u32) -> Vec<Status> {
        let bytes = &self.bytes[AnswerHeader::SIZE..][..count as usize];
        bytes.iter().copied().map(Status).collect()
    }

    /// The `nth` page of a GET of `count` pages.
    pub fn page(&self, count: u32, nth: u32) -> &[u8] {
        let start = AnswerHeader::SIZE + count as usize + nth as usize * PAGE_SIZE;
        &self.bytes[start..start + PAGE_SIZE]
    }
}

/// Makes requests, one at a time, in an area of guest memory of its own.
#[derive(Debug)]
pub struct Driver<'m, M, T> {
    mem: &'m M,
    queue: DriverQueue<'m, M>,
    transport: T,
    area: u64,
}

impl<'m, M: GuestMemory, T: Transport> Driver<'m, M, T> {
    /// Guest memory that a driver needs for a request's bytes, its answer's and
    /// an indirect table, 2 MiB each.
    pub const AREA: u64 = 3 * Self::PART;
    const PART: u64 = 2 << 20;

    /// A driver on `queue` that uses [`Driver::AREA`] bytes from `area`.
    pub fn new(mem: &'m M, queue: DriverQueue<'m, M>, area: u64, transport: T) -> Self {
        Self {
            mem,
            queue,
            transport,
            area,
        }
    }

    /// The queue.
    pub fn queue(&mut self) -> &mut DriverQueue<'m, M> {
        &mut self.queue
    }

    /// The transport.
    pub fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Makes a request of `bytes`, with room for an answer of `room` bytes.
    pub fn call(&mut self, bytes: &[u8], room: usize, layout: &Layout) -> Answer {
        let answer = self.area + Self::PART;
        self.mem
            .write_slice(bytes, GuestAddress(self.area))
            .unwrap();
        self.mem
            .write_slice(&vec![Answer::UNTOUCHED; room], GuestAddress(answer))
            .unwrap();
        let readable = Span::cut(self.area, bytes.len(), &layout.readable);
        let writable = Span::cut(answer, room, &layout.writable);
        let used = self.call_spans(&readable, &writable, layout.indirect);
        let mut bytes = vec![0; room];
        self.mem
            .read_slice(&mut bytes, GuestAddress(answer))
            .unwrap();
        Answer { used, bytes }
    }

    /// Makes a request of any descriptors; returns the used length.
    pub fn call_spans(&mut self, readable: &[Span], writable: &[Span], indirect: bool) -> u32 {
        let head = if indirect {
            self.queue
                .add_indirect(self.area + 2 * Self::PART, readable, writable)
        } else {
            self.queue.add(readable, writable)
        };
        let head = head.expect("a driver that waits for each answer has free descriptors");
        self.submit();
        loop {
            if let Some(used) = self.queue.pop_used() {
                assert_eq!(used.head, head, "buffers are used in order");
                return used.len;
            }
            self.transport.wait();
        }
    }

    /// Kicks the device if it wants that.
    pub fn submit(&mut self) {
        if self.queue.needs_kick() {
            self.transport.kick();
        }
    }

    fn simple(&mut self, op: Op, pool: u32, object: &ObjectId, index: u64, count: u32) -> Answer {
        let bytes = request(&header(op, pool, object, index, count), &[]);
        self.call(&bytes, AnswerHeader::SIZE, &Layout::default())
    }

    /// CREATE_POOL.
    pub fn create_pool(&mut self, pool: u32, kind: PoolKind) -> Status {
        self.create_pool_as(pool, &PoolSpec::own(kind))
    }

    /// CREATE_POOL of a share's pool.
    pub fn create_shared_pool(&mut self, pool: u32, share: ShareId) -> Status {
        self.create_pool_as(pool, &PoolSpec::shared(share))
    }

    /// CREATE_POOL of a verified share's pool.
    pub fn create_verified_pool(&mut self, pool: u32, share: ShareId) -> Status {
        self.create_pool_as(pool, &PoolSpec::verified(share))
    }

    /// CREATE_POOL with this specification.
    pub fn create_pool_as(&mut self, pool: u32, spec: &PoolSpec) -> Status {
        let bytes = request(
            &header(Op::CreatePool, pool, &[0; 24], 0, 0),
            &[&spec.encode()],
        );
        self.call(&bytes, AnswerHeader::SIZE, &Layout::default())
            .status()
    }

    /// DESTROY_POOL.
    pub fn destroy_pool(&mut self, pool: u32) -> Answer {
        self.simple(Op::DestroyPool, pool, &[0; 24], 0, 0)
    }

    /// PUT of a run.
    pub fn put(&mut self, pool: u32, object: &ObjectId, index: u64, pages: &[Page]) -> Answer {
        self.put_as(pool, object, index, pages, &Layout::default())
    }

    /// PUT of a run, cut as `layout` says.
    pub fn put_as(
        &mut self,
        pool: u32,
        object: &ObjectId,
        index: u64,
        pages: &[Page],
        layout: &Layout,
    ) -> Answer {
        let head = header(Op::Put, pool, object, index, pages.len() as u32);
        let bytes = request(&head, &[pages.as_flattened()]);
        self.call(&bytes, AnswerHeader::SIZE + pages.len(), layout)
    }

    /// GET of a run.
    pub fn get(&mut self, pool: u32, object: &ObjectId, index: u64, count: u32) -> Answer {
        self.get_as(pool, object, index, count, false, &Layout::default())
    }

    /// GET of a run, cut as `layout` says, and perhaps removing.
    pub fn get_as(
        &mut self,
        pool: u32,
        object: &ObjectId,
        index: u64,
        count: u32,
        remove: bool,
        layout: &Layout,
    ) -> Answer {
        let mut head = header(Op::Get, pool, object, index, count);
        if remove {
            head.flags = RequestFlags::REMOVE;
        }
        let room = AnswerHeader::SIZE + count as usize * (1 + PAGE_SIZE);
        self.call(&request(&head, &[]), room, layout)
    }

    /// FLUSH of a run.
    pub fn flush(&mut self, pool: u32, object: &ObjectId, index: u64, count: u32) -> Answer {
        self.simple(Op::Flush, pool, object, index, count)
    }

    /// FLUSH_OBJECT.
    pub fn flush_object(&mut self, pool: u32, object: &ObjectId) -> Answer {
        self.simple(Op::FlushObject, pool, object, 0, 0)
    }

    /// FLUSH_EXTENTS.
    pub fn flush_extents(&mut self, pool: u32, object: &ObjectId, extents: &[Extent]) -> Answer {
        let head = header(Op::FlushExtents, pool, object, 0, extents.len() as u32);
        let payload: Vec<u8> = extents.iter().flat_map(Extent::encode).collect();
        self.call(
            &request(&head, &[&payload]),
            AnswerHeader::SIZE,
            &Layout::default(),
        )
    }

    /// RELINQUISH of ranges, each an address and bytes.
    pub fn relinquish(&mut self, ranges: &[(u64, u64)]) -> Answer {
        let count = ranges.len() as u32;
        let head = header(Op::Relinquish, 0, &[0; 24], 0, count);
        let range = |(address, bytes)| MemoryRange { address, bytes }.encode();
        let payload: Vec<u8> = ranges.iter().copied().flat_map(range).collect();
        let room = AnswerHeader::SIZE + ranges.len();
        self.call(&request(&head, &[&payload]), room, &Layout::default())
    }

    /// GET_LIMITS.
    pub fn limits(&mut self) -> Limits {
        let bytes = request(&header(Op::GetLimits, 0, &[0; 24], 0, 0), &[]);
        let room = AnswerHeader::SIZE + Limits::SIZE;
        let answer = self.call(&bytes, room, &Layout::default());
        assert_eq!(answer.status(), Status::OK);
        Limits::decode(answer.bytes[AnswerHeader::SIZE..].try_into().unwrap())
    }
}
