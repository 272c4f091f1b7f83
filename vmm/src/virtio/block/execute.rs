// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs requests on a disk.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_ID_BYTES,
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
};
use virtio_blk_tmem::wire::{HEADER, Limits, RANGE, Range, Request};
use vm_memory::VolatileSlice;

use super::layout::{DISCARD, MAX_DATA, WRITE_ZEROES};
use super::{Block, SECTOR};
use crate::virtio::notice::Notices;
use crate::virtio::{Chain, total};

/// Runs requests, and says now and then what goes wrong.
#[derive(Debug)]
pub(super) struct Executor {
    block: Arc<Block>,
    notices: Notices,
}

/// Why a request fails.
#[derive(Debug)]
enum Failure {
    /// The host's file cannot do it.
    Host(io::Error),
    /// The driver may not ask for it.
    Refused,
    /// The disk does not have it.
    Unsupported,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

impl Executor {
    pub(super) fn new(block: Arc<Block>, notices: Notices) -> Self {
        Self { block, notices }
    }

    /// Runs the request in `chain`, and says how many bytes were written there.
    pub(super) fn answer(&mut self, chain: &mut Chain<'_>) -> u32 {
        let Some(status) = chain.split_last_writable() else {
            self.block.stats.malformed.add(1);
            return 0;
        };
        let room = total(&chain.writable);
        let sent = total(&chain.readable);
        let (value, filled) = if room > MAX_DATA || sent > MAX_DATA + HEADER as u64 {
            self.block.stats.refused.add(1);
            (VIRTIO_BLK_S_IOERR, false)
        } else {
            let value = match self.run(chain) {
                Ok(()) => VIRTIO_BLK_S_OK,
                Err(failure) => self.count(&failure),
            };
            // The status comes last, and what lies before it must be written
            // if the driver is to look at it.
            chain.writable.iter().for_each(zero);
            (value, true)
        };
        status.copy_from(&value.to_le_bytes());
        if filled {
            u32::try_from(room + 1).unwrap_or_default()
        } else {
            0
        }
    }

    fn count(&mut self, failure: &Failure) -> u32 {
        match failure {
            Failure::Host(error) => {
                self.block.stats.host_errors.add(1);
                self.notices.failed("a request", error);
                VIRTIO_BLK_S_IOERR
            }
            Failure::Refused => {
                self.block.stats.refused.add(1);
                VIRTIO_BLK_S_IOERR
            }
            Failure::Unsupported => {
                self.block.stats.unsupported.add(1);
                VIRTIO_BLK_S_UNSUPP
            }
        }
    }

    /// Leaves in `chain.writable` what was not written.
    fn run(&mut self, chain: &mut Chain<'_>) -> Result<(), Failure> {
        let mut header = [0; HEADER];
        if !chain.read(&mut header) {
            return Err(Failure::Refused);
        }
        match Request::parse(header) {
            Request::Read(sector) => {
                let len = total(&chain.writable);
                let offset = self.place(sector, len)?;
                self.block.disk.read(&chain.writable, offset)?;
                chain.writable.clear();
                self.block.stats.reads.add(1);
                self.block.stats.read_bytes.add(len);
                Ok(())
            }
            Request::Write(sector) => {
                let len = total(&chain.readable);
                self.check_writable()?;
                let offset = self.place(sector, len)?;
                self.block.disk.write(&chain.readable, offset)?;
                self.settle()?;
                self.block.stats.writes.add(1);
                self.block.stats.written_bytes.add(len);
                Ok(())
            }
            Request::Flush => {
                self.block.disk.sync()?;
                self.block.stats.flushes.add(1);
                Ok(())
            }
            Request::Id => {
                let mut id = [0; VIRTIO_BLK_ID_BYTES as usize];
                for (to, from) in id.iter_mut().zip(self.block.disk.id().bytes()) {
                    *to = from;
                }
                chain.write(&id);
                Ok(())
            }
            Request::Discard => self.discard(chain),
            Request::WriteZeroes => self.write_zeroes(chain),
            Request::Unknown => Err(Failure::Unsupported),
        }
    }

    fn discard(&mut self, chain: &mut Chain<'_>) -> Result<(), Failure> {
        let ranges = self.ranges(chain, VIRTIO_BLK_F_DISCARD, DISCARD)?;
        if ranges.iter().any(|range| range.unmap) {
            return Err(Failure::Unsupported);
        }
        for range in ranges {
            let (offset, len) = bytes(range);
            if !self.block.disk.discard(offset, len)? {
                return Err(Failure::Unsupported);
            }
            self.block.stats.discarded_bytes.add(len);
        }
        self.settle()?;
        self.block.stats.discards.add(1);
        Ok(())
    }

    fn write_zeroes(&mut self, chain: &mut Chain<'_>) -> Result<(), Failure> {
        for range in self.ranges(chain, VIRTIO_BLK_F_WRITE_ZEROES, WRITE_ZEROES)? {
            let (offset, len) = bytes(range);
            self.block.disk.zero(offset, len, range.unmap)?;
            self.block.stats.zeroed_bytes.add(len);
        }
        self.settle()?;
        self.block.stats.zeroings.add(1);
        Ok(())
    }

    /// The ranges of a request that needs the feature `bit`, all on the disk
    /// and within `limits`.
    fn ranges(
        &self,
        chain: &mut Chain<'_>,
        bit: u32,
        limits: Limits,
    ) -> Result<Vec<Range>, Failure> {
        self.check_writable()?;
        if !self.block.has(bit) {
            return Err(Failure::Unsupported);
        }
        let len = total(&chain.readable);
        let count = len / RANGE as u64;
        if !len.is_multiple_of(RANGE as u64) || count == 0 || count > limits.ranges.into() {
            return Err(Failure::Refused);
        }
        let mut ranges = Vec::new();
        for _ in 0..count {
            let mut bytes = [0; RANGE];
            chain.read(&mut bytes);
            let range = Range::parse(bytes);
            if range.unknown_flags {
                return Err(Failure::Unsupported);
            }
            self.place(range.sector, u64::from(range.sectors) * SECTOR)?;
            if range.sectors > limits.sectors {
                return Err(Failure::Refused);
            }
            ranges.push(range);
        }
        Ok(ranges)
    }

    fn check_writable(&self) -> Result<(), Failure> {
        if self.block.disk.is_read_only() {
            return Err(Failure::Refused);
        }
        Ok(())
    }

    /// The byte at which `len` bytes from `sector` on begin, if they are whole
    /// sectors of the disk.
    fn place(&self, sector: u64, len: u64) -> Result<u64, Failure> {
        let begin = sector.checked_mul(SECTOR).ok_or(Failure::Refused)?;
        let end = begin.checked_add(len).ok_or(Failure::Refused)?;
        if !len.is_multiple_of(SECTOR) || end > self.block.disk.size() {
            return Err(Failure::Refused);
        }
        Ok(begin)
    }

    /// Makes what was written stable at once if the driver will not ask for it
    /// (virtio 1.2, section 5.2.6.2).
    fn settle(&self) -> Result<(), Failure> {
        if !self.block.has(VIRTIO_BLK_F_FLUSH) {
            self.block.disk.sync()?;
            self.block.stats.flushes.add(1);
        }
        Ok(())
    }
}

/// First byte and length.
fn bytes(range: Range) -> (u64, u64) {
    // On the disk, so this does not overflow.
    (range.sector * SECTOR, u64::from(range.sectors) * SECTOR)
}

fn zero(slice: &VolatileSlice<'_>) {
    let mut rest = *slice;
    while !rest.is_empty() {
        let count = rest.len().min(4096);
        rest.copy_from(&[0u8; 4096]);
        match rest.offset(count) {
            Ok(next) => rest = next,
            Err(_) => break,
        }
    }
}
