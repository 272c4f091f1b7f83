// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From the device-readable bytes to a typed request.
//!
//! What is asked first decides which fault a request with several has: header
//! length, operation, flags, count, range, length of the payload, content of
//! the payload. What depends on the pool is asked when the request is run.

use std::marker::PhantomData;

use super::config::{MAX_EXTENTS, MAX_RANGES, MAX_RUN};
use super::fault::Fault;
use tmem_wire::{
    Extent, MemoryRange, ObjectId, Op, PAGE_SIZE, PoolFlags, PoolKind, PoolSpec, RequestFlags,
    RequestHeader, ShareId,
};
use virtio_serve::Source;

/// A run of pages: never empty, never beyond index 2^64 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The pool's id.
    pub pool: u32,
    /// The object.
    pub object: ObjectId,
    /// First page.
    pub index: u64,
    /// Pages.
    pub count: u32,
}

/// A share, as a driver asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedShare {
    /// Which.
    pub id: ShareId,
    /// Whether it has to be a verified one; if not, it must not be.
    pub is_verified: bool,
}

/// A well-formed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Make a pool.
    CreatePool {
        /// Its id.
        pool: u32,
        /// What it promises.
        kind: PoolKind,
        /// The share whose pool it is; `None`: the VM's own.
        share: Option<WantedShare>,
    },
    /// Remove a pool with its pages.
    DestroyPool {
        /// Its id.
        pool: u32,
    },
    /// Put pages, which follow in the source.
    Put(Run),
    /// Get pages.
    Get {
        /// Which.
        run: Run,
        /// Whether pages that are found are also removed.
        remove: bool,
    },
    /// Remove pages.
    Flush(Run),
    /// Remove all pages of an object.
    FlushObject {
        /// The pool's id.
        pool: u32,
        /// The object.
        object: ObjectId,
    },
    /// Remove runs of pages of one object; the extents follow in the source.
    FlushExtents {
        /// The pool's id.
        pool: u32,
        /// The object.
        object: ObjectId,
        /// Extents.
        count: u32,
    },
    /// Tell the limits.
    GetLimits,
    /// Take ranges of the VM's memory back, which follow in the source.
    Relinquish {
        /// Ranges.
        count: u32,
    },
}

impl Request {
    /// Reads the header and what else decides whether the request is well
    /// formed. Pages and extents stay in `from`, which has enough of them.
    ///
    /// # Errors
    /// The first mistake, in the order of the module's description.
    pub fn parse(from: &mut impl Source) -> Result<Self, Fault> {
        if from.remaining() < RequestHeader::SIZE as u64 {
            return Err(Fault::RequestShort);
        }
        let mut bytes = [0; RequestHeader::SIZE];
        from.read(&mut bytes).map_err(|_| Fault::RequestUnmapped)?;
        let header = RequestHeader::decode(&bytes);
        let op = Op::from_wire(header.op).ok_or(Fault::UnknownOp)?;
        let known_flags = match op {
            Op::Get => RequestFlags::REMOVE.0,
            _ => 0,
        };
        if header.flags.0 & !known_flags != 0 {
            return Err(Fault::UnknownFlag);
        }
        let (pool, object, count) = (header.pool, header.object, header.count);
        match op {
            Op::CreatePool => {
                let (kind, share) = pool_spec(from)?;
                Ok(Self::CreatePool { pool, kind, share })
            }
            Op::DestroyPool => Ok(Self::DestroyPool { pool }),
            Op::Put => {
                let run = run(&header, Some(MAX_RUN))?;
                need(from, u64::from(run.count) * PAGE_SIZE as u64)?;
                Ok(Self::Put(run))
            }
            Op::Get => Ok(Self::Get {
                run: run(&header, Some(MAX_RUN))?,
                remove: header.flags == RequestFlags::REMOVE,
            }),
            Op::Flush => Ok(Self::Flush(run(&header, None)?)),
            Op::FlushObject => Ok(Self::FlushObject { pool, object }),
            Op::FlushExtents => {
                bound(count, Some(MAX_EXTENTS))?;
                need(from, u64::from(count) * Extent::SIZE as u64)?;
                Ok(Self::FlushExtents {
                    pool,
                    object,
                    count,
                })
            }
            Op::GetLimits => Ok(Self::GetLimits),
            Op::Relinquish => {
                bound(count, Some(MAX_RANGES))?;
                need(from, u64::from(count) * MemoryRange::SIZE as u64)?;
                Ok(Self::Relinquish { count })
            }
        }
    }

    /// The operation.
    pub const fn op(&self) -> Op {
        match self {
            Self::CreatePool { .. } => Op::CreatePool,
            Self::DestroyPool { .. } => Op::DestroyPool,
            Self::Put(_) => Op::Put,
            Self::Get { .. } => Op::Get,
            Self::Flush(_) => Op::Flush,
            Self::FlushObject { .. } => Op::FlushObject,
            Self::FlushExtents { .. } => Op::FlushExtents,
            Self::GetLimits => Op::GetLimits,
            Self::Relinquish { .. } => Op::Relinquish,
        }
    }
}

/// Bytes of an extent, and of a range.
const ENTRY: usize = 16;
const _: () = assert!(Extent::SIZE == ENTRY && MemoryRange::SIZE == ENTRY);

/// What a request lists after its header.
pub(super) trait Entry: Sized {
    /// Reads one.
    fn decode(bytes: &[u8; ENTRY]) -> Self;

    /// Judges it.
    fn check(&self) -> Result<(), Fault>;
}

impl Entry for Extent {
    fn decode(bytes: &[u8; ENTRY]) -> Self {
        Self::decode(bytes)
    }

    fn check(&self) -> Result<(), Fault> {
        check_range(self.index, self.count)
    }
}

impl Entry for MemoryRange {
    fn decode(bytes: &[u8; ENTRY]) -> Self {
        Self::decode(bytes)
    }

    fn check(&self) -> Result<(), Fault> {
        let page = PAGE_SIZE as u64;
        let more = self.bytes.checked_sub(1);
        let last = more.and_then(|more| self.address.checked_add(more));
        if last.is_none() {
            return Err(Fault::RangeBounds);
        }
        if !self.address.is_multiple_of(page) || !self.bytes.is_multiple_of(page) {
            return Err(Fault::RangeAlignment);
        }
        Ok(())
    }
}

/// The entries of a list, all of them judged.
#[derive(Debug)]
pub(super) struct Entries<'a, T> {
    bytes: &'a [u8],
    kind: PhantomData<T>,
}

impl<'a, T: Entry> Entries<'a, T> {
    /// Copies `count` entries, which fit, into `scratch` and judges them, so that
    /// a malformed one keeps all of them from having an effect.
    pub(super) fn read(
        from: &mut impl Source,
        count: u32,
        scratch: &'a mut [u8],
    ) -> Result<Self, Fault> {
        let bytes = scratch
            .get_mut(..count as usize * ENTRY)
            .ok_or(Fault::TooLong)?;
        from.read(bytes).map_err(|_| Fault::RequestUnmapped)?;
        let entries = Self {
            bytes,
            kind: PhantomData,
        };
        for entry in entries.iter() {
            entry.check()?;
        }
        Ok(entries)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        let (entries, _) = self.bytes.as_chunks::<ENTRY>();
        entries.iter().map(T::decode)
    }
}

fn pool_spec(from: &mut impl Source) -> Result<(PoolKind, Option<WantedShare>), Fault> {
    need(from, PoolSpec::SIZE as u64)?;
    let mut bytes = [0; PoolSpec::SIZE];
    from.read(&mut bytes).map_err(|_| Fault::RequestUnmapped)?;
    let spec = PoolSpec::decode(&bytes);
    let kind = PoolKind::from_wire(spec.kind).ok_or(Fault::UnknownPoolSpec)?;
    const VERIFIED: PoolFlags = PoolFlags::SHARED.union(PoolFlags::VERIFIED);
    let is_verified = match (spec.flags, kind) {
        (flags, _) if flags == PoolFlags::default() => return Ok((kind, None)),
        (PoolFlags::SHARED, PoolKind::Ephemeral) => false,
        (VERIFIED, PoolKind::Ephemeral) => true,
        _ => return Err(Fault::UnknownPoolSpec),
    };
    let id = spec.share;
    Ok((kind, Some(WantedShare { id, is_verified })))
}

fn run(header: &RequestHeader, most: Option<u32>) -> Result<Run, Fault> {
    bound(header.count, most)?;
    check_range(header.index, header.count)?;
    Ok(Run {
        pool: header.pool,
        object: header.object,
        index: header.index,
        count: header.count,
    })
}

fn bound(count: u32, most: Option<u32>) -> Result<(), Fault> {
    match most {
        _ if count == 0 => Err(Fault::CountZero),
        Some(most) if count > most => Err(Fault::TooLong),
        _ => Ok(()),
    }
}

fn check_range(index: u64, count: u32) -> Result<(), Fault> {
    let more = u64::from(count).checked_sub(1).ok_or(Fault::CountZero)?;
    match index.checked_add(more) {
        Some(_) => Ok(()),
        None => Err(Fault::IndexRange),
    }
}

fn need(from: &impl Source, bytes: u64) -> Result<(), Fault> {
    if from.remaining() < bytes {
        return Err(Fault::RequestShort);
    }
    Ok(())
}
