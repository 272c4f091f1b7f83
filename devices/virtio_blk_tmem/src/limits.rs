// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a request may ask for at most.

/// The unit of addresses and lengths, in bytes, whatever the disk's blocks are.
pub const SECTOR: u64 = 512;

/// Bytes of a block: a page of the store.
pub const BLOCK: u64 = BLOCK_SIZE as u64;

/// The same, as the configuration space has it.
pub(crate) const BLOCK_SIZE: u32 = 4096;
const _: () = assert!(BLOCK_SIZE as usize == tmem_store::PAGE_SIZE);

/// Sectors of a block.
pub(crate) const BLOCK_SECTORS: u32 = 8;
const _: () = assert!(BLOCK_SECTORS as u64 * SECTOR == BLOCK);

/// Largest virtqueue in descriptors: what front ends ask for when they may choose.
pub const QUEUE_SIZE: u16 = 1024;

/// Most buffers of data in a request: all but header and status of a queue of 128, which is
/// QEMU's. Drivers count descriptors of an indirect table, too, and no chain may be longer
/// than its queue. 126 pages that lie apart are 504 KiB, more than swap or readahead asks
/// for at once.
pub(crate) const MAX_SEGMENTS: u32 = 126;

/// Most bytes in one of them. With [`MAX_SEGMENTS`] this limits how long a request takes.
pub(crate) const MAX_SEGMENT: u32 = 1 << 20;

/// Most bytes of data in a request.
pub(crate) const MAX_DATA: u64 = MAX_SEGMENT as u64 * MAX_SEGMENTS as u64;

/// Most ranges of a discard or write-zeroes request: as many as Linux merges.
pub const MAX_RANGES: u32 = 256;

/// Most sectors of a range: all whole blocks that the field can tell. What a range costs
/// depends on the pages that are there, and a long request is interrupted and run again.
pub(crate) const MAX_RANGE_SECTORS: u32 = u32::MAX - (u32::MAX % BLOCK_SECTORS);
