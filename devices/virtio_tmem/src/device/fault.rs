// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a driver can do wrong. Each mistake has a name, a counter and, where
//! an answer can be given, a status.

use tmem_wire::Status;

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:expr;)*) => {
        /// A driver's mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[$doc])* $variant,)*
        }

        impl Fault {
            /// All faults, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Stable name of the fault's counter.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Status that answers the fault; `None` when no answer can be
            /// given and the buffer is used with length 0, or when there is
            /// no buffer to use.
            pub const fn status(self) -> Option<Status> {
                match self {
                    $(Self::$variant => $status,)*
                }
            }
        }
    };
}

faults! {
    /// The available ring cannot be read or its index is more than a queue
    /// size ahead: nothing is taken from the queue until it makes sense again.
    QueueIndex = "queue_index", None;
    /// The descriptor table, the available ring and the used ring overlap:
    /// what the device writes would be requests.
    RingOverlap = "ring_overlap", None;
    /// The available ring names a descriptor that does not exist.
    HeadRange = "head_range", None;
    /// The used ring cannot be written.
    UsedRing = "used_ring", None;
    /// The chain loops, leaves its table, or its indirect table is malformed
    /// or outside guest memory.
    ChainBroken = "chain_broken", Some(Status::INVALID);
    /// A device-readable descriptor follows a device-writable one.
    ChainOrder = "chain_order", Some(Status::INVALID);
    /// No room for an answer header.
    AnswerMissing = "answer_missing", None;
    /// The answer header lies outside guest memory.
    AnswerUnmapped = "answer_unmapped", None;
    /// No room for the whole answer.
    AnswerShort = "answer_short", Some(Status::INVALID);
    /// The room for page statuses, limits or the pages of a GET lies outside
    /// guest memory.
    DataUnmapped = "data_unmapped", Some(Status::INVALID);
    /// Fewer device-readable bytes than a header, or than the operation needs.
    RequestShort = "request_short", Some(Status::INVALID);
    /// The header, a pool spec, extents or ranges lie outside guest memory.
    RequestUnmapped = "request_unmapped", Some(Status::INVALID);
    /// The pages of a PUT lie outside guest memory, at least in part. Answered
    /// page by page.
    PageUnmapped = "page_unmapped", None;
    /// An operation that version 1 does not know.
    UnknownOp = "unknown_op", Some(Status::UNSUPPORTED);
    /// A flag that the operation does not know.
    UnknownFlag = "unknown_flag", Some(Status::UNSUPPORTED);
    /// A pool kind or pool flag that version 1 does not know.
    UnknownPoolSpec = "unknown_pool_spec", Some(Status::UNSUPPORTED);
    /// A run or extent of no pages, or no extents or ranges.
    CountZero = "count_zero", Some(Status::INVALID);
    /// More pages than `max_run`, extents than `max_extents` or ranges than
    /// `max_ranges`.
    TooLong = "too_long", Some(Status::TOO_LONG);
    /// A run or extent that ends beyond index 2^64 - 1.
    IndexRange = "index_range", Some(Status::INVALID);
    /// A range of memory of no bytes, or beyond address 2^64 - 1.
    RangeBounds = "range_bounds", Some(Status::INVALID);
    /// A range of memory that is not of whole pages.
    RangeAlignment = "range_alignment", Some(Status::INVALID);
    /// A range that is not memory of the VM's. Answered range by range.
    RangeForeign = "range_foreign", None;
    /// A GET that removes, from a persistent pool.
    RemovePersistent = "remove_persistent", Some(Status::INVALID);
    /// A GET that removes, from a share.
    RemoveShared = "remove_shared", Some(Status::INVALID);
    /// A page put into a verified share under a handle that is not its hash. Answered page by page.
    HashMismatch = "hash_mismatch", None;
    /// A share that does not exist, or is not for this VM, or not any more, or is of the other sort.
    NoShare = "no_share", Some(Status::NO_SHARE);
    /// No pool with this id.
    UnknownPool = "unknown_pool", Some(Status::NO_POOL);
    /// CREATE_POOL: the pool exists and is of the other kind, or of another share or none.
    PoolConflict = "pool_conflict", Some(Status::POOL_CONFLICT);
    /// CREATE_POOL: the id is not below `max_pools`.
    PoolRange = "pool_range", Some(Status::TOO_MANY_POOLS);
    /// An event buffer with less room than an event, or outside guest memory.
    EventBuffer = "event_buffer", None;
}

#[cfg(feature = "virtqueue")]
impl From<virtio_serve::RingFault> for Fault {
    fn from(fault: virtio_serve::RingFault) -> Self {
        use virtio_serve::RingFault;
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
