// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests as a driver writes them (virtio 1.2, section 5.2.6).

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

/// Bytes before the data.
pub(super) const HEADER: usize = 16;

/// Bytes of each range of a discard or write-zeroes request.
pub(super) const RANGE: usize = 16;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Read from this sector.
    Read(u64),
    /// Write to this sector.
    Write(u64),
    Flush,
    Id,
    Discard,
    WriteZeroes,
    /// Something that the disk does not have.
    Unknown,
}

impl Request {
    /// Reads a header: type, a reserved field, sector.
    pub(super) fn parse(header: [u8; HEADER]) -> Self {
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        match u32::from_le_bytes([t0, t1, t2, t3]) {
            VIRTIO_BLK_T_IN => Self::Read(sector),
            VIRTIO_BLK_T_OUT => Self::Write(sector),
            VIRTIO_BLK_T_FLUSH => Self::Flush,
            VIRTIO_BLK_T_GET_ID => Self::Id,
            VIRTIO_BLK_T_DISCARD => Self::Discard,
            VIRTIO_BLK_T_WRITE_ZEROES => Self::WriteZeroes,
            _ => Self::Unknown,
        }
    }
}

/// A range to discard or to zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) sector: u64,
    pub(super) sectors: u32,
    /// The range may lose its storage.
    pub(super) unmap: bool,
    /// There are flags that are not known.
    pub(super) unknown_flags: bool,
}

impl Range {
    /// Reads first sector, sectors and flags.
    pub(super) fn parse(bytes: [u8; RANGE]) -> Self {
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = bytes;
        let flags = u32::from_le_bytes(flags);
        Self {
            sector: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            sectors: u32::from_le_bytes([n0, n1, n2, n3]),
            unmap: flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0,
            unknown_flags: flags & !VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0,
        }
    }
}
