// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests of virtio-blk as a driver writes them (virtio 1.2, section 5.2.6), and the
//! configuration space (section 5.2.4): nothing here is of this disk alone.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

/// Bytes before the data.
pub const HEADER: usize = 16;

/// Bytes of each range of a discard or write-zeroes request.
pub const RANGE: usize = 16;

/// Bytes of the configuration space, up to the fields that nobody here has.
pub const SPACE: usize = 60;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read from this sector.
    Read(u64),
    /// Write to this sector.
    Write(u64),
    /// Make stable what was written.
    Flush,
    /// Say who you are.
    Id,
    /// Forget ranges.
    Discard,
    /// Zero ranges.
    WriteZeroes,
    /// Something else.
    Unknown,
}

impl Request {
    /// Reads a header: type, a reserved field, sector.
    pub fn parse(header: [u8; HEADER]) -> Self {
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
pub struct Range {
    /// First sector.
    pub sector: u64,
    /// How many.
    pub sectors: u32,
    /// The range may lose its storage.
    pub unmap: bool,
    /// There are flags that are not known.
    pub unknown_flags: bool,
}

impl Range {
    /// Reads first sector, sectors and flags.
    pub fn parse(bytes: [u8; RANGE]) -> Self {
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

/// Limits of a discard or write-zeroes request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most ranges in it.
    pub ranges: u32,
    /// Most sectors of each.
    pub sectors: u32,
}

/// What the configuration space tells. A field that is 0 is of a feature that is not offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Sectors of 512 bytes.
    pub capacity: u64,
    /// Most bytes of a buffer of data.
    pub size_max: u32,
    /// Most buffers of data in a request.
    pub seg_max: u32,
    /// Bytes of a block.
    pub blk_size: u32,
    /// Blocks that are best read or written at a time, at least.
    pub min_io_size: u16,
    /// Whether a completed write may not be stable before a flush.
    pub writeback: bool,
    /// Request queues.
    pub num_queues: u16,
    /// Limits of a discard.
    pub discard: Limits,
    /// Sectors on whose multiples discards are best.
    pub discard_sector_alignment: u32,
    /// Limits of a write-zeroes request, which may remove the storage of its ranges.
    pub write_zeroes: Limits,
}

impl Space {
    /// Its bytes.
    pub fn encode(&self) -> [u8; SPACE] {
        let mut space = [0; SPACE];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(field) = space.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
        };
        put(0, &self.capacity.to_le_bytes());
        put(8, &self.size_max.to_le_bytes());
        put(12, &self.seg_max.to_le_bytes());
        put(20, &self.blk_size.to_le_bytes());
        put(26, &self.min_io_size.to_le_bytes());
        put(WRITEBACK as usize, &[self.writeback.into()]);
        put(34, &self.num_queues.to_le_bytes());
        put(36, &self.discard.sectors.to_le_bytes());
        put(40, &self.discard.ranges.to_le_bytes());
        put(44, &self.discard_sector_alignment.to_le_bytes());
        put(48, &self.write_zeroes.sectors.to_le_bytes());
        put(52, &self.write_zeroes.ranges.to_le_bytes());
        // write_zeroes_may_unmap
        put(56, &[(self.write_zeroes.ranges > 0).into()]);
        space
    }

    /// Reads its bytes. Judges nothing; a field that nobody here has is not looked at.
    pub fn decode(space: &[u8; SPACE]) -> Self {
        /// The `N` bytes at `at`.
        fn take<const N: usize>(space: &[u8; SPACE], at: usize) -> [u8; N] {
            let field = space.get(at..at + N);
            let field = field.and_then(|field| field.try_into().ok());
            field.unwrap_or([0; N])
        }
        let long = |at| u32::from_le_bytes(take(space, at));
        let short = |at| u16::from_le_bytes(take(space, at));
        let [writeback] = take(space, WRITEBACK as usize);
        Self {
            capacity: u64::from_le_bytes(take(space, 0)),
            size_max: long(8),
            seg_max: long(12),
            blk_size: long(20),
            min_io_size: short(26),
            writeback: writeback != 0,
            num_queues: short(34),
            discard: Limits {
                sectors: long(36),
                ranges: long(40),
            },
            discard_sector_alignment: long(44),
            write_zeroes: Limits {
                sectors: long(48),
                ranges: long(52),
            },
        }
    }
}

/// Where the field `writeback` is, the only one that drivers write.
pub const WRITEBACK: u32 = 32;

/// The last byte of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// Not done, or not wholly.
    IoError,
    /// Not known.
    Unsupported,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ok, Self::IoError, Self::Unsupported];

    /// The byte.
    pub const fn byte(self) -> u8 {
        // The constants are bytes.
        self.constant().to_le_bytes()[0]
    }

    const fn constant(self) -> u32 {
        match self {
            Self::Ok => VIRTIO_BLK_S_OK,
            Self::IoError => VIRTIO_BLK_S_IOERR,
            Self::Unsupported => VIRTIO_BLK_S_UNSUPP,
        }
    }

    /// Stable name, for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::IoError => "io_error",
            Self::Unsupported => "unsupported",
        }
    }
}
