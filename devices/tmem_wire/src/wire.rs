// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR BSD-3-Clause
//! The virtio-tmem wire format, version 1.
//!
//! This file is the one thing that the device and the guest driver share: both
//! are compiled with it as it stands, so it is `no_std`, depends on nothing
//! and needs no `unsafe`. Its words and numbers are those of `spec/`.
//!
//! All integers are little-endian. Reserved bytes are written as zero and
//! ignored when read, except where the specification says otherwise.

/// Virtio device id (spec section 2). Provisional: not assigned by OASIS.
pub const DEVICE_ID: u32 = 60;

/// Bytes in a page. Version 1 knows no other page size.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// Binary logarithm of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

/// Index of the event queue (spec section 4).
pub const EVENT_QUEUE: u16 = 0;

/// Index of the first request queue; all later queues are request queues too.
pub const FIRST_REQUEST_QUEUE: u16 = 1;

/// Copies `N` bytes at `at`; bytes beyond the end of `from` read as zero.
fn take<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    if let Some(bytes) = from.get(at..at + N) {
        field.copy_from_slice(bytes);
    }
    field
}

/// Copies `field` to `at`; a field that does not fit whole is left out.
fn give(to: &mut [u8], at: usize, field: &[u8]) {
    if let Some(bytes) = to.get_mut(at..at + field.len()) {
        bytes.copy_from_slice(field);
    }
}

/// The device's configuration space (spec section 3): constant for as long
/// as the device exists, read-only to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// [`Config::MAGIC`].
    pub magic: u32,
    /// [`Config::VERSION`].
    pub version: u32,
    /// Bits of [`Capabilities`].
    pub capabilities: Capabilities,
    /// Names the set of pools behind the device. The same id after a reset or
    /// a re-plug means: the same pools, with their persistent pages. See
    /// [`Config::has_back_end`].
    pub instance: [u8; 16],
    /// Binary logarithm of the page size in bytes; 12 in version 1.
    pub page_shift: u32,
    /// Most pages that one PUT or GET may name.
    pub max_run: u32,
    /// Most extents that one FLUSH_EXTENTS may carry.
    pub max_extents: u32,
    /// Pool ids run from 0 to `max_pools - 1`.
    pub max_pools: u32,
    /// Request queues: virtqueues 1 to `request_queues`.
    pub request_queues: u32,
    /// Most ranges that one RELINQUISH may carry; 0 without
    /// [`Capabilities::RELINQUISH`].
    pub max_ranges: u32,
}

impl Config {
    /// Bytes of configuration space.
    pub const SIZE: usize = 64;
    /// The bytes `T` `M` `E` `M`, in this order.
    pub const MAGIC: u32 = u32::from_le_bytes(*b"TMEM");
    /// Version of the specification.
    pub const VERSION: u32 = 1;
    /// The instance of a device whose back end has not come yet.
    pub const NO_BACK_END: [u8; 16] = [0; 16];

    /// Writes the layout of spec section 3.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &self.magic.to_le_bytes());
        give(&mut to, 4, &self.version.to_le_bytes());
        give(&mut to, 8, &self.capabilities.0.to_le_bytes());
        give(&mut to, 16, &self.instance);
        give(&mut to, 32, &self.page_shift.to_le_bytes());
        give(&mut to, 36, &self.max_run.to_le_bytes());
        give(&mut to, 40, &self.max_extents.to_le_bytes());
        give(&mut to, 44, &self.max_pools.to_le_bytes());
        give(&mut to, 48, &self.request_queues.to_le_bytes());
        give(&mut to, 52, &self.max_ranges.to_le_bytes());
        to
    }

    /// Reads the layout of spec section 3. Judges nothing: see
    /// [`Config::is_supported`].
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        Self {
            magic: u32::from_le_bytes(take(from, 0)),
            version: u32::from_le_bytes(take(from, 4)),
            capabilities: Capabilities(u64::from_le_bytes(take(from, 8))),
            instance: take(from, 16),
            page_shift: u32::from_le_bytes(take(from, 32)),
            max_run: u32::from_le_bytes(take(from, 36)),
            max_extents: u32::from_le_bytes(take(from, 40)),
            max_pools: u32::from_le_bytes(take(from, 44)),
            request_queues: u32::from_le_bytes(take(from, 48)),
            max_ranges: u32::from_le_bytes(take(from, 52)),
        }
    }

    /// Whether pools are behind the device already (spec section 8).
    pub fn has_back_end(&self) -> bool {
        self.instance != Self::NO_BACK_END
    }

    /// Whether a driver of this version may use the device (`drv-config-check`).
    pub fn is_supported(&self) -> bool {
        self.magic == Self::MAGIC
            && self.version == Self::VERSION
            && self.page_shift == PAGE_SHIFT
            && self.max_run > 0
            && self.max_pools > 0
            && self.request_queues > 0
    }
}

/// What the device offers: a mask in [`Config`]. Unknown bits are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Persistent pools.
    pub const PERSISTENT: Self = Self(1 << 0);
    /// Ephemeral pools.
    pub const EPHEMERAL: Self = Self(1 << 1);
    /// [`RequestFlags::REMOVE`] on a GET from an ephemeral pool.
    pub const GET_REMOVE: Self = Self(1 << 2);
    /// [`Op::FlushExtents`].
    pub const FLUSH_EXTENTS: Self = Self(1 << 3);
    /// The event queue delivers [`Event`]s.
    pub const EVENTS: Self = Self(1 << 4);
    /// [`Op::Relinquish`].
    pub const RELINQUISH: Self = Self(1 << 5);
    /// Ephemeral pools that several VMs have ([`PoolFlags::SHARED`]).
    pub const SHARED_POOLS: Self = Self(1 << 6);
    /// Shares whose handles are hashes of their pages ([`PoolFlags::VERIFIED`]).
    pub const VERIFIED_SHARES: Self = Self(1 << 7);

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The operations (spec section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    /// Make a pool; a [`PoolSpec`] follows the header.
    CreatePool = 1,
    /// Remove a pool and all its pages.
    DestroyPool = 2,
    /// Copy a run of pages to the device; the pages follow the header.
    Put = 3,
    /// Copy a run of pages from the device.
    Get = 4,
    /// Remove a run of pages.
    Flush = 5,
    /// Remove every page of an object.
    FlushObject = 6,
    /// Remove many runs of one object; `count` [`Extent`]s follow the header.
    FlushExtents = 7,
    /// Ask for [`Limits`].
    GetLimits = 8,
    /// Give ranges of the VM's memory back to the host; `count`
    /// [`MemoryRange`]s follow the header.
    Relinquish = 9,
}

impl Op {
    /// All operations of version 1.
    pub const ALL: [Self; 9] = [
        Self::CreatePool,
        Self::DestroyPool,
        Self::Put,
        Self::Get,
        Self::Flush,
        Self::FlushObject,
        Self::FlushExtents,
        Self::GetLimits,
        Self::Relinquish,
    ];

    /// The operation with this number, if version 1 has one.
    pub fn from_wire(op: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u16 == op)
    }
}

/// Flags of a request; a bit that the operation does not know is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFlags(pub u16);

impl RequestFlags {
    /// GET: a page that was found is also removed. Ephemeral pools only,
    /// because a removing get cannot be replayed (`dev-get-remove`).
    pub const REMOVE: Self = Self(1 << 0);
}

/// Names an object inside a pool: 192 bits that the device does not interpret.
pub type ObjectId = [u8; 24];

/// The SHA-256 by which a page is named in a verified share (spec section 6.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHash(pub [u8; Self::SIZE]);

impl PageHash {
    /// Bytes of the hash.
    pub const SIZE: usize = 32;

    /// The object of the page with this hash: its first 24 bytes.
    pub fn object(&self) -> ObjectId {
        take(&self.0, 0)
    }

    /// The index of the page with this hash: the other bytes, as a little-endian number.
    pub fn index(&self) -> u64 {
        u64::from_le_bytes(take(&self.0, 24))
    }

    /// The hash that a page must have to be put under this handle.
    pub fn of_handle(object: &ObjectId, index: u64) -> Self {
        let mut hash = [0; Self::SIZE];
        give(&mut hash, 0, object);
        give(&mut hash, 24, &index.to_le_bytes());
        Self(hash)
    }
}

/// The first device-readable bytes of every request (spec section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// An [`Op`], or a number that this version does not know.
    pub op: u16,
    /// Bits of [`RequestFlags`].
    pub flags: RequestFlags,
    /// The pool, chosen by the driver in CREATE_POOL.
    pub pool: u32,
    /// The object.
    pub object: ObjectId,
    /// First page of the run, in pages.
    pub index: u64,
    /// Pages in the run, extents in FLUSH_EXTENTS, ranges in RELINQUISH.
    pub count: u32,
}

impl RequestHeader {
    /// Bytes of the header.
    pub const SIZE: usize = 48;

    /// Writes the layout of spec section 5.1.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &self.op.to_le_bytes());
        give(&mut to, 2, &self.flags.0.to_le_bytes());
        give(&mut to, 4, &self.pool.to_le_bytes());
        give(&mut to, 8, &self.object);
        give(&mut to, 32, &self.index.to_le_bytes());
        give(&mut to, 40, &self.count.to_le_bytes());
        to
    }

    /// Reads the layout of spec section 5.1. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        Self {
            op: u16::from_le_bytes(take(from, 0)),
            flags: RequestFlags(u16::from_le_bytes(take(from, 2))),
            pool: u32::from_le_bytes(take(from, 4)),
            object: take(from, 8),
            index: u64::from_le_bytes(take(from, 32)),
            count: u32::from_le_bytes(take(from, 40)),
        }
    }
}

/// What a pool promises about its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PoolKind {
    /// An accepted page stays until it is flushed.
    Persistent = 1,
    /// A page may vanish at any time.
    Ephemeral = 2,
}

impl PoolKind {
    /// The kind with this number, if version 1 has one.
    pub fn from_wire(kind: u32) -> Option<Self> {
        match kind {
            1 => Some(Self::Persistent),
            2 => Some(Self::Ephemeral),
            _ => None,
        }
    }
}

/// Flags of a pool; a bit that the device does not know is refused, never ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolFlags(pub u32);

impl PoolFlags {
    /// The pool is that of a share, which other VMs have, too (spec section 6.9). Ephemeral pools only.
    pub const SHARED: Self = Self(1 << 0);
    /// The share is a verified one, whose pages are named by [`PageHash`] (spec section 6.10). Only with
    /// [`Self::SHARED`].
    pub const VERIFIED: Self = Self(1 << 1);

    /// The bits of both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Names a share: a UUID, which the device does not interpret.
pub type ShareId = [u8; 16];

/// Follows the header of a CREATE_POOL (spec section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// A [`PoolKind`], or a number that this version does not know.
    pub kind: u32,
    /// Bits of [`PoolFlags`].
    pub flags: PoolFlags,
    /// The share whose pool it is, with [`PoolFlags::SHARED`]; zeros without.
    pub share: ShareId,
}

impl PoolSpec {
    /// Bytes of the structure; the last 8 are reserved.
    pub const SIZE: usize = 32;

    /// A pool of the VM's own.
    pub fn own(kind: PoolKind) -> Self {
        Self {
            kind: kind as u32,
            flags: PoolFlags::default(),
            share: [0; 16],
        }
    }

    /// The pool of a share.
    pub fn shared(share: ShareId) -> Self {
        Self {
            kind: PoolKind::Ephemeral as u32,
            flags: PoolFlags::SHARED,
            share,
        }
    }

    /// The pool of a verified share.
    pub fn verified(share: ShareId) -> Self {
        Self {
            flags: PoolFlags::SHARED.union(PoolFlags::VERIFIED),
            ..Self::shared(share)
        }
    }

    /// Writes the layout of spec section 6.1.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &self.kind.to_le_bytes());
        give(&mut to, 4, &self.flags.0.to_le_bytes());
        give(&mut to, 8, &self.share);
        to
    }

    /// Reads the layout of spec section 6.1. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        Self {
            kind: u32::from_le_bytes(take(from, 0)),
            flags: PoolFlags(u32::from_le_bytes(take(from, 4))),
            share: take(from, 8),
        }
    }
}

/// One run in a FLUSH_EXTENTS (spec section 6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First page.
    pub index: u64,
    /// Pages; zero is an error.
    pub count: u32,
}

impl Extent {
    /// Bytes of the structure; the last 4 are reserved.
    pub const SIZE: usize = 16;

    /// Writes the layout of spec section 6.6.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &self.index.to_le_bytes());
        give(&mut to, 8, &self.count.to_le_bytes());
        to
    }

    /// Reads the layout of spec section 6.6. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        Self {
            index: u64::from_le_bytes(take(from, 0)),
            count: u32::from_le_bytes(take(from, 8)),
        }
    }
}

/// One range in a RELINQUISH (spec section 6.8): whole pages of the VM's own
/// memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// Guest-physical address in bytes, a multiple of [`PAGE_SIZE`].
    pub address: u64,
    /// Bytes, a multiple of [`PAGE_SIZE`]; zero is an error.
    pub bytes: u64,
}

impl MemoryRange {
    /// Bytes of the structure.
    pub const SIZE: usize = 16;

    /// Writes the layout of spec section 6.8.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &self.address.to_le_bytes());
        give(&mut to, 8, &self.bytes.to_le_bytes());
        to
    }

    /// Reads the layout of spec section 6.8. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        Self {
            address: u64::from_le_bytes(take(from, 0)),
            bytes: u64::from_le_bytes(take(from, 8)),
        }
    }
}

/// Outcome of a request as a whole, or of one page or range of it (spec section
/// 5.3).
///
/// Bit 7 ([`Status::PRIOR_REMOVED`]) stands beside the code: an older page
/// under the same handle was there and is gone. `OK` with it means *replaced*;
/// a refusal with it means that the handle now holds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u8);

impl Status {
    /// Done.
    pub const OK: Self = Self(0x00);
    /// CREATE_POOL: the pool exists already and is of this kind.
    pub const EXISTS: Self = Self(0x01);
    /// GET, page: nothing under this handle; the buffer was not written.
    pub const MISS: Self = Self(0x10);
    /// PUT, page: the VM's or the pool's quota is used up.
    pub const QUOTA: Self = Self(0x20);
    /// PUT, page, and CREATE_POOL: the host has no memory left for it.
    pub const NO_MEMORY: Self = Self(0x21);
    /// PUT, page: the VM is frozen and the page is not a duplicate.
    pub const FROZEN: Self = Self(0x22);
    /// PUT, page: in a verified share, the page's hash is not its handle.
    pub const MISMATCH: Self = Self(0x23);
    /// GET, page: the page is there but could not be brought back. RELINQUISH,
    /// range: the host could not take the memory back.
    pub const IO_ERROR: Self = Self(0x30);
    /// RELINQUISH, range: not memory of the VM, or not of a kind that the host
    /// can take back.
    pub const NOT_MEMORY: Self = Self(0x31);
    /// Request: the operation, a flag or a pool flag is not known.
    pub const UNSUPPORTED: Self = Self(0x40);
    /// Request: malformed; it had no effect.
    pub const INVALID: Self = Self(0x41);
    /// Request: no pool with this id. PUT, page: it was destroyed meanwhile.
    pub const NO_POOL: Self = Self(0x42);
    /// CREATE_POOL: the id is taken by a pool of the other kind, or of another share or none.
    pub const POOL_CONFLICT: Self = Self(0x43);
    /// CREATE_POOL: the id is not below `max_pools`.
    pub const TOO_MANY_POOLS: Self = Self(0x44);
    /// Request: longer than `max_run`, `max_extents` or `max_ranges`.
    pub const TOO_LONG: Self = Self(0x45);
    /// CREATE_POOL: there is no such share, or it is not for this VM, or is verified and was asked for
    /// as one that is not, or the other way round.
    pub const NO_SHARE: Self = Self(0x46);

    /// Flag beside the code: an older page under this handle is gone.
    pub const PRIOR_REMOVED: u8 = 0x80;

    /// The code without the flag.
    pub const fn code(self) -> Self {
        Self(self.0 & !Self::PRIOR_REMOVED)
    }

    /// Whether an older page under this handle was removed.
    pub const fn prior_removed(self) -> bool {
        self.0 & Self::PRIOR_REMOVED != 0
    }

    /// The same code, with the flag set to `removed`.
    pub const fn with_prior_removed(self, removed: bool) -> Self {
        if removed {
            Self(self.0 | Self::PRIOR_REMOVED)
        } else {
            self.code()
        }
    }

    /// Whether the code is [`Status::OK`], with or without the flag.
    pub const fn is_ok(self) -> bool {
        self.code().0 == Self::OK.0
    }
}

/// What the device says about itself beside each answer. Hints may be late
/// and never change what a request does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints(pub u8);

impl Hints {
    /// A put of a new page to a persistent pool would now be refused.
    pub const FULL: Self = Self(1 << 0);
    /// The VM is frozen.
    pub const FROZEN: Self = Self(1 << 1);

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The first device-writable bytes of every request (spec section 5.2).
///
/// In a PUT, a GET or a RELINQUISH, `count` statuses of one byte each follow it;
/// in a GET the pages follow those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerHeader {
    /// Outcome of the request as a whole.
    pub status: Status,
    /// Bits of [`Hints`].
    pub hints: Hints,
    /// Pages that were put, delivered, removed or given back.
    pub pages: u64,
}

impl AnswerHeader {
    /// Bytes of the header.
    pub const SIZE: usize = 16;

    /// Writes the layout of spec section 5.2.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &[self.status.0, self.hints.0]);
        give(&mut to, 8, &self.pages.to_le_bytes());
        to
    }

    /// Reads the layout of spec section 5.2. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        let [status, hints] = take(from, 0);
        Self {
            status: Status(status),
            hints: Hints(hints),
            pages: u64::from_le_bytes(take(from, 8)),
        }
    }
}

/// Follows the answer header of a GET_LIMITS (spec section 6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that the host holds for this VM, bookkeeping included.
    pub quota_bytes: u64,
    /// Bytes that it holds now.
    pub held_bytes: u64,
    /// Size in pages of the swap disk that the VM is granted.
    pub swap_pages: u64,
    /// Pages in persistent pools.
    pub persistent_pages: u64,
    /// Pages in ephemeral pools.
    pub ephemeral_pages: u64,
    /// The same bits as beside every answer.
    pub hints: Hints,
    /// Bytes of the VM's memory that it can give back; 0 if that is not known.
    pub memory_bytes: u64,
    /// Bytes of them that the host backs now.
    pub backed_bytes: u64,
}

impl Limits {
    /// Bytes of the structure; those not named are reserved.
    pub const SIZE: usize = 64;

    /// Writes the layout of spec section 6.7.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &self.quota_bytes.to_le_bytes());
        give(&mut to, 8, &self.held_bytes.to_le_bytes());
        give(&mut to, 16, &self.swap_pages.to_le_bytes());
        give(&mut to, 24, &self.persistent_pages.to_le_bytes());
        give(&mut to, 32, &self.ephemeral_pages.to_le_bytes());
        give(&mut to, 40, &u32::from(self.hints.0).to_le_bytes());
        give(&mut to, 48, &self.memory_bytes.to_le_bytes());
        give(&mut to, 56, &self.backed_bytes.to_le_bytes());
        to
    }

    /// Reads the layout of spec section 6.7. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        let [hints] = take(from, 40);
        Self {
            quota_bytes: u64::from_le_bytes(take(from, 0)),
            held_bytes: u64::from_le_bytes(take(from, 8)),
            swap_pages: u64::from_le_bytes(take(from, 16)),
            persistent_pages: u64::from_le_bytes(take(from, 24)),
            ephemeral_pages: u64::from_le_bytes(take(from, 32)),
            hints: Hints(hints),
            memory_bytes: u64::from_le_bytes(take(from, 48)),
            backed_bytes: u64::from_le_bytes(take(from, 56)),
        }
    }
}

/// An event, on the event queue (spec section 7). Events of one kind may be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// An [`EventKind`], or a number to be ignored.
    pub kind: u32,
}

/// The kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// The limits or the hints changed: ask with GET_LIMITS.
    Limits = 1,
    /// The operator asks the driver to write its persistent pages back and
    /// stop using the device.
    Detach = 2,
}

impl Event {
    /// Bytes of the structure; the last 28 are reserved.
    pub const SIZE: usize = 32;

    /// Writes the layout of spec section 7.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &self.kind.to_le_bytes());
        to
    }

    /// Reads the layout of spec section 7. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        Self {
            kind: u32::from_le_bytes(take(from, 0)),
        }
    }
}
