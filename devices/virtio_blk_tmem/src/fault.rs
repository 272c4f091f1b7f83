// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a driver can do wrong. Each mistake has a name, a counter and, where an answer can be
//! given, a status.

use virtio_serve::RingFault;

use crate::wire::Status;

/// A driver's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The available ring cannot be read or its index is more than a queue size ahead:
    /// nothing is taken from the queue until it makes sense again.
    QueueIndex,
    /// The descriptor table, the available ring and the used ring overlap.
    RingOverlap,
    /// The available ring names a descriptor that does not exist.
    HeadRange,
    /// The used ring cannot be written.
    UsedRing,
    /// The chain loops, leaves its table, or its indirect table is malformed or outside guest
    /// memory.
    ChainBroken,
    /// A device-readable descriptor follows a device-writable one.
    ChainOrder,
    /// No room for a status.
    StatusMissing,
    /// The status lies outside guest memory.
    StatusUnmapped,
    /// Fewer device-readable bytes than a header.
    HeaderShort,
    /// The header or a list of ranges lies outside guest memory.
    HeaderUnmapped,
    /// Data of a write in buffers that are to be written, or room for that of a read in
    /// buffers that are not.
    DataDirection,
    /// More data than `seg_max` buffers of `size_max` bytes.
    TooLong,
    /// Data that is not of whole sectors.
    Alignment,
    /// Sectors that the disk does not have.
    Capacity,
    /// Data of a read or write lies outside guest memory, at least in part.
    DataUnmapped,
    /// A list of ranges that is empty, too long, or ends in the middle of one; or a range that
    /// is too long.
    Ranges,
    /// A flag of a range that is not known, or not for this request.
    RangeFlags,
    /// A type of request that is not known.
    UnknownType,
}

impl Fault {
    /// All faults, in the order of their counters.
    pub const ALL: [Self; 18] = [
        Self::QueueIndex,
        Self::RingOverlap,
        Self::HeadRange,
        Self::UsedRing,
        Self::ChainBroken,
        Self::ChainOrder,
        Self::StatusMissing,
        Self::StatusUnmapped,
        Self::HeaderShort,
        Self::HeaderUnmapped,
        Self::DataDirection,
        Self::TooLong,
        Self::Alignment,
        Self::Capacity,
        Self::DataUnmapped,
        Self::Ranges,
        Self::RangeFlags,
        Self::UnknownType,
    ];

    /// Stable name of the fault's counter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueIndex => "queue_index",
            Self::RingOverlap => "ring_overlap",
            Self::HeadRange => "head_range",
            Self::UsedRing => "used_ring",
            Self::ChainBroken => "chain_broken",
            Self::ChainOrder => "chain_order",
            Self::StatusMissing => "status_missing",
            Self::StatusUnmapped => "status_unmapped",
            Self::HeaderShort => "header_short",
            Self::HeaderUnmapped => "header_unmapped",
            Self::DataDirection => "data_direction",
            Self::TooLong => "too_long",
            Self::Alignment => "alignment",
            Self::Capacity => "capacity",
            Self::DataUnmapped => "data_unmapped",
            Self::Ranges => "ranges",
            Self::RangeFlags => "range_flags",
            Self::UnknownType => "unknown_type",
        }
    }

    /// Status that answers the fault, where there is room for one.
    pub const fn status(self) -> Status {
        match self {
            Self::RangeFlags | Self::UnknownType => Status::Unsupported,
            _ => Status::IoError,
        }
    }
}

impl From<RingFault> for Fault {
    fn from(fault: RingFault) -> Self {
        match fault {
            RingFault::QueueIndex => Self::QueueIndex,
            RingFault::RingOverlap => Self::RingOverlap,
            RingFault::HeadRange => Self::HeadRange,
            RingFault::UsedRing => Self::UsedRing,
            RingFault::ChainBroken => Self::ChainBroken,
            RingFault::ChainOrder => Self::ChainOrder,
        }
    }
}
