// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Byte streams over the descriptors of a chain, wherever those begin and end.
//!
//! virtio-queue's own `Reader` and `Writer` allocate for every chain and end a
//! malformed chain silently; this module does neither. The descriptors are
//! copied out of guest memory once, into a buffer that is kept.

use std::ops::Deref;

use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

use super::fault::RingFault;
use super::lost::Lost;
use super::stream::{Sink, Source, Unmapped};

/// A stretch of guest memory, as a descriptor gives it.
#[derive(Clone, Copy, Debug)]
struct Segment {
    addr: GuestAddress,
    len: u32,
}

/// The descriptors of one chain; the buffer is reused from chain to chain.
#[derive(Debug)]
pub(super) struct Chain {
    segments: Vec<Segment>,
    /// How many of `segments`, from the front, are device-readable.
    readable: usize,
}

/// Descriptors that fit without the buffer having to grow: a run of 256 pages,
/// each in two parts, beside header and statuses.
const SEGMENTS: usize = 520;

impl Chain {
    pub(super) fn new() -> Self {
        Self {
            segments: Vec::with_capacity(SEGMENTS),
            readable: 0,
        }
    }

    /// Takes the descriptors of `chain`. After an error those before the
    /// mistake are there: they may have room for an answer that says so.
    pub(super) fn load<M>(&mut self, chain: DescriptorChain<M>) -> Result<(), RingFault>
    where
        M: Deref,
        M::Target: GuestMemory,
    {
        self.segments.clear();
        self.readable = 0;
        // virtio-queue's iterator ends the same way after the last descriptor
        // and at one that it refuses; only the former has no successor.
        let mut complete = false;
        for descriptor in chain {
            complete = !descriptor.has_next();
            self.push(descriptor)?;
        }
        if complete {
            Ok(())
        } else {
            Err(RingFault::ChainBroken)
        }
    }

    fn push(&mut self, descriptor: Descriptor) -> Result<(), RingFault> {
        if !descriptor.is_write_only() {
            if self.readable < self.segments.len() {
                return Err(RingFault::ChainOrder);
            }
            self.readable += 1;
        }
        self.segments.push(Segment {
            addr: descriptor.addr(),
            len: descriptor.len(),
        });
        Ok(())
    }

    pub(super) fn source<'a, M: GuestMemory + ?Sized>(
        &'a self,
        mem: &'a M,
        lost: &'a Lost,
    ) -> Cursor<'a, M> {
        let (readable, _) = self.segments.split_at(self.readable);
        Cursor::new(mem, readable, lost)
    }

    pub(super) fn sink<'a, M: GuestMemory + ?Sized>(
        &'a self,
        mem: &'a M,
        lost: &'a Lost,
    ) -> Cursor<'a, M> {
        let (_, writable) = self.segments.split_at(self.readable);
        Cursor::new(mem, writable, lost)
    }
}

/// A place in the bytes of some segments.
#[derive(Debug)]
pub struct Cursor<'a, M: ?Sized> {
    mem: &'a M,
    lost: &'a Lost,
    /// Segments not wholly passed.
    segments: &'a [Segment],
    /// Bytes of the first segment that are passed.
    passed: u32,
    remaining: u64,
}

impl<'a, M: GuestMemory + ?Sized> Cursor<'a, M> {
    fn new(mem: &'a M, segments: &'a [Segment], lost: &'a Lost) -> Self {
        Self {
            mem,
            lost,
            segments,
            passed: 0,
            remaining: segments.iter().map(|segment| u64::from(segment.len)).sum(),
        }
    }

    /// The next piece of at most `count` bytes that lies in one segment.
    fn piece(&mut self, count: u64) -> Option<(Result<GuestAddress, Unmapped>, u32)> {
        if count == 0 || self.remaining == 0 {
            return None;
        }
        loop {
            let (segment, rest) = self.segments.split_first()?;
            let left = segment.len - self.passed;
            let len = u32::try_from(count).map_or(left, |count| count.min(left));
            if len == 0 {
                self.segments = rest;
                self.passed = 0;
                continue;
            }
            let addr = segment
                .addr
                .0
                .checked_add(u64::from(self.passed))
                .filter(|addr| addr.checked_add(u64::from(len)).is_some())
                .map(GuestAddress)
                .ok_or(Unmapped);
            self.passed += len;
            self.remaining -= u64::from(len);
            return Some((addr, len));
        }
    }

    fn copy(&self) -> Self {
        Self {
            mem: self.mem,
            lost: self.lost,
            segments: self.segments,
            passed: self.passed,
            remaining: self.remaining,
        }
    }

    fn pass(&mut self, mut count: u64) {
        while let Some((_, len)) = self.piece(count) {
            count -= u64::from(len);
        }
    }
}

impl<M: GuestMemory + ?Sized> Source for Cursor<'_, M> {
    fn remaining(&self) -> u64 {
        self.remaining
    }

    fn read(&mut self, mut to: &mut [u8]) -> Result<(), Unmapped> {
        let mut outcome = Ok(());
        while let Some((addr, len)) = self.piece(to.len() as u64) {
            let (now, later) = to.split_at_mut(len as usize);
            to = later;
            outcome = outcome.and_then(|()| self.mem.read_slice(now, addr?).map_err(|_| Unmapped));
        }
        // What was copied may not be the guest's.
        if to.is_empty() && !self.lost.is_lost() {
            outcome
        } else {
            Err(Unmapped)
        }
    }
}

impl<M: GuestMemory + ?Sized> Sink for Cursor<'_, M> {
    fn remaining(&self) -> u64 {
        self.remaining
    }

    fn is_mapped(&self, mut count: u64) -> bool {
        let mut ahead = self.copy();
        while let Some((addr, len)) = ahead.piece(count) {
            count -= u64::from(len);
            let mapped =
                addr.is_ok_and(|addr| self.mem.check_range(addr, len as usize, Permissions::Write));
            if !mapped {
                return false;
            }
        }
        count == 0 && !self.lost.is_lost()
    }

    fn write(&mut self, mut from: &[u8]) -> Result<(), Unmapped> {
        let mut outcome = Ok(());
        while let Some((addr, len)) = self.piece(from.len() as u64) {
            let (now, later) = from.split_at(len as usize);
            from = later;
            outcome = outcome.and_then(|()| self.mem.write_slice(now, addr?).map_err(|_| Unmapped));
        }
        // The guest may not have got it.
        if from.is_empty() && !self.lost.is_lost() {
            outcome
        } else {
            Err(Unmapped)
        }
    }

    fn skip(&mut self, count: u64) {
        self.pass(count);
    }

    fn split_off_front(&mut self, count: u64) -> Self {
        let mut front = self.copy();
        front.remaining = front.remaining.min(count);
        self.pass(count);
        front
    }
}
