// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a request's bytes to its answer: parse, run on the disk's blocks, answer.

use std::ops::Range;

use tmem_store::{PAGE_SIZE, Page};
use virtio_serve::{GoOn, Sink, Source};

use crate::disk::Disk;
use crate::extent::{Part, edges, parts, whole_blocks};
use crate::fault::Fault;
use crate::limits::{BLOCK, MAX_DATA, SECTOR};
use crate::metrics::{Op, Served};
use crate::pages::{Blocks, Failed, ZEROS};
use crate::ranges::Ranges;
use crate::wire::{HEADER, Request, Status};

/// Blocks that are read before it is asked whether the request may go on.
const AT_ONCE: u64 = 256;

/// Runs requests, one at a time. Each queue has its own, so that nothing has to be allocated
/// or shared while a request runs.
#[derive(Debug)]
pub(crate) struct Executor {
    /// A block on its way.
    page: Box<Page>,
    /// A block of which a part is changed.
    scratch: Box<Page>,
    /// The last request.
    served: Option<Served>,
}

impl Default for Executor {
    fn default() -> Self {
        Self {
            page: Box::new([0; PAGE_SIZE]),
            scratch: Box::new([0; PAGE_SIZE]),
            served: None,
        }
    }
}

/// Why a request is not done.
#[derive(Clone, Copy, Debug)]
enum Undone {
    /// The driver's mistake.
    Fault(Fault),
    /// The store has refused, or lost, a block.
    Failed,
    /// It was stopped before its end, and is to be run again.
    Stopped,
}

impl From<Fault> for Undone {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Failed> for Undone {
    fn from(Failed: Failed) -> Self {
        Self::Failed
    }
}

impl Executor {
    /// Runs the request in `source` and writes the answer to `sink`; returns how many bytes of
    /// it count as written. A chain that is `broken` is answered if it has room for that.
    /// `None`: `go_on` stopped it, nothing was answered, and it is to be run again; what it had
    /// done by then does no harm.
    pub(crate) fn run<S: Sink>(
        &mut self,
        disk: &Disk,
        broken: Option<Fault>,
        mut source: impl Source,
        mut sink: S,
        go_on: GoOn<'_>,
    ) -> Option<u32> {
        let Some(room) = sink.remaining().checked_sub(1) else {
            disk.metrics().fault(broken.unwrap_or(Fault::StatusMissing));
            return Some(0);
        };
        let mut data = sink.split_off_front(room);
        if !sink.is_mapped(1) {
            disk.metrics()
                .fault(broken.unwrap_or(Fault::StatusUnmapped));
            return Some(0);
        }
        let outcome = match broken {
            None => self.execute(disk, &mut source, &mut data, go_on),
            Some(fault) => Err(fault.into()),
        };
        let status = match outcome {
            Ok(()) => Status::Ok,
            Err(Undone::Stopped) => return None,
            Err(Undone::Failed) => Status::IoError,
            Err(Undone::Fault(fault)) => {
                disk.metrics().fault(fault);
                fault.status()
            }
        };
        if let Some(served) = &mut self.served {
            served.status = status;
        }
        // The status comes last: what lies before it has to be written if the driver is to
        // look at it.
        let filled = room <= MAX_DATA && fill(&mut data);
        if sink.write(&[status.byte()]).is_err() {
            return Some(0);
        }
        disk.metrics().answer(status);
        let len = u32::try_from(room + 1).unwrap_or(0);
        Some(if filled { len } else { 0 })
    }

    /// What the last request was, once.
    pub(crate) fn served(&mut self) -> Option<Served> {
        self.served.take()
    }

    /// Leaves in `data` what was not written.
    fn execute(
        &mut self,
        disk: &Disk,
        source: &mut impl Source,
        data: &mut impl Sink,
        go_on: GoOn<'_>,
    ) -> Result<(), Undone> {
        let mut header = [0; HEADER];
        if source.remaining() < HEADER as u64 {
            return Err(Fault::HeaderShort.into());
        }
        source
            .read(&mut header)
            .map_err(|_| Fault::HeaderUnmapped)?;
        let request = Request::parse(header);
        let op = match request {
            Request::Read(_) => Op::Read,
            Request::Write(_) => Op::Write,
            Request::Flush => Op::Flush,
            Request::Id => Op::GetId,
            Request::Discard => Op::Discard,
            Request::WriteZeroes => Op::WriteZeroes,
            Request::Unknown => return Err(Fault::UnknownType.into()),
        };
        disk.metrics().request(op);
        self.served = Some(Served {
            op,
            status: Status::Ok,
        });
        let blocks = disk.open().ok_or(Undone::Failed)?;
        match request {
            Request::Read(sector) => {
                if source.remaining() > 0 {
                    return Err(Fault::DataDirection.into());
                }
                let bytes = data_place(disk, sector, data.remaining())?;
                read(&blocks, bytes, data, go_on)
            }
            Request::Write(sector) => {
                if data.remaining() > 0 {
                    return Err(Fault::DataDirection.into());
                }
                let bytes = data_place(disk, sector, source.remaining())?;
                self.write(&blocks, bytes, source, go_on)
            }
            // Nothing is to be made stable: a block is in the store when its write is answered,
            // and stays there as long as this host lives and no longer. It is memory.
            Request::Flush => Ok(()),
            Request::Id => {
                let serial = &disk.config().serial;
                let len = usize::try_from(data.remaining()).unwrap_or(usize::MAX);
                let some = serial.get(..len).unwrap_or(serial);
                data.write(some).map_err(|_| Fault::DataUnmapped.into())
            }
            Request::Discard => {
                let ranges = Ranges::read(source, false, |sector, len| place(disk, sector, len))?;
                let (mut blocks_of, count) = ranges.into_whole_blocks();
                let whole = blocks_of.get_mut(..count).unwrap_or_default();
                let removed = blocks.forget(whole, go_on);
                disk.metrics().discarded(removed.ok_or(Undone::Stopped)?);
                Ok(())
            }
            Request::WriteZeroes => {
                let ranges = Ranges::read(source, true, |sector, len| place(disk, sector, len))?;
                for bytes in ranges.bytes() {
                    self.zero(&blocks, bytes, go_on)?;
                }
                Ok(())
            }
            Request::Unknown => Err(Fault::UnknownType.into()),
        }
    }

    fn write(
        &mut self,
        blocks: &Blocks<'_>,
        bytes: Range<u64>,
        source: &mut impl Source,
        go_on: GoOn<'_>,
    ) -> Result<(), Undone> {
        for (nth, part) in parts(bytes).enumerate() {
            if nth as u64 % AT_ONCE == AT_ONCE - 1 && !go_on() {
                return Err(Undone::Stopped);
            }
            let bytes = self.page.get_mut(..part.range.len()).ok_or(Failed)?;
            // Before anything is locked: who knows how long it takes.
            source.read(bytes).map_err(|_| Fault::DataUnmapped)?;
            if part.is_whole() {
                blocks.write(part.block, &self.page)?;
            } else {
                let at = part.range.start;
                if !blocks.write_part(part.block, at, bytes, &mut self.scratch, go_on)? {
                    return Err(Undone::Stopped);
                }
            }
        }
        Ok(())
    }

    fn zero(
        &mut self,
        blocks: &Blocks<'_>,
        bytes: Range<u64>,
        go_on: GoOn<'_>,
    ) -> Result<(), Undone> {
        let whole = whole_blocks(&bytes);
        for part in edges(&bytes) {
            let zeros = ZEROS.get(part.range.clone()).ok_or(Failed)?;
            let at = part.range.start;
            if !blocks.write_part(part.block, at, zeros, &mut self.scratch, go_on)? {
                return Err(Undone::Stopped);
            }
        }
        if let Some((first, last)) = whole {
            let removed = blocks.zero(first, last, go_on)?;
            blocks.metrics.zeroed(removed.ok_or(Undone::Stopped)?);
        }
        Ok(())
    }
}

fn read(
    blocks: &Blocks<'_>,
    bytes: Range<u64>,
    data: &mut impl Sink,
    go_on: GoOn<'_>,
) -> Result<(), Undone> {
    if !data.is_mapped(data.remaining()) {
        return Err(Fault::DataUnmapped.into());
    }
    let mut outcome = Ok(());
    let mut at = bytes.start;
    while at < bytes.end {
        let first = at / BLOCK;
        let next = bytes.end.min((first + AT_ONCE) * BLOCK);
        let count = next.div_ceil(BLOCK) - first;
        let count = u32::try_from(count).map_err(|_| Fault::TooLong)?;
        let whole = blocks.read(first, count, go_on, &mut |block, page| {
            let part = Part::of(block, &(at..next));
            let written = match page.map(|page| page.get(part.range.clone())) {
                Ok(Some(some)) => data.write(some).map_err(|_| Fault::DataUnmapped.into()),
                Ok(None) | Err(Failed) => {
                    // Zeros in its place are told apart by the status.
                    data.write(ZEROS.get(part.range).unwrap_or_default())
                        .map_err(|_| Undone::from(Fault::DataUnmapped))
                        .and(Err(Undone::Failed))
                }
            };
            if outcome.is_ok() {
                outcome = written;
            }
        });
        at = next;
        if !whole || (at < bytes.end && !go_on()) {
            return Err(Undone::Stopped);
        }
    }
    outcome
}

/// As [`place`], for data that one request has.
fn data_place(disk: &Disk, sector: u64, len: u64) -> Result<Range<u64>, Fault> {
    if len > MAX_DATA {
        return Err(Fault::TooLong);
    }
    place(disk, sector, len)
}

/// Where on the disk `len` bytes from `sector` on are.
fn place(disk: &Disk, sector: u64, len: u64) -> Result<Range<u64>, Fault> {
    if !len.is_multiple_of(SECTOR) {
        return Err(Fault::Alignment);
    }
    let start = sector.checked_mul(SECTOR).ok_or(Fault::Capacity)?;
    let end = start.checked_add(len).ok_or(Fault::Capacity)?;
    if end > disk.blocks() * BLOCK {
        return Err(Fault::Capacity);
    }
    Ok(start..end)
}

/// Fills what is left with zeros; whether it could be.
fn fill(data: &mut impl Sink) -> bool {
    loop {
        let len = data.remaining().min(BLOCK);
        let some = usize::try_from(len).ok().and_then(|len| ZEROS.get(..len));
        match some {
            Some([]) => return true,
            Some(some) if data.write(some).is_ok() => {}
            _ => return false,
        }
    }
}
