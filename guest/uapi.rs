// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR BSD-3-Clause
//! What `tmemctl` and the module say to each other: ioctls of `/dev/tmem`.
//!
//! This file is compiled as it stands into both, so it is `no_std`, depends on nothing and needs no
//! `unsafe`. All integers are in the machine's byte order; reserved fields are zero.

/// The name of the device file below `/dev`.
pub const DEVICE_NAME: &str = "tmem";

/// The version of this interface, in [`Status`]: tool and module must agree.
pub const VERSION: u32 = 1;

/// The letter of the ioctls' numbers.
const LETTER: u32 = 0xb8;

/// The number of an ioctl as `_IOC()` makes it: which way the argument goes, its number and size.
const fn number(direction: u32, number: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | LETTER << 8 | number
}

const NONE: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;

/// Attaches a filter to a block device: takes a [`Target`].
///
/// `EEXIST` when one is attached already, `ENXIO` when there is no such block device, `EOPNOTSUPP`
/// when the device cannot have one, or the kernel does not tell what it evicts, `EBUSY` when a filter is attached to a part of it, or to the
/// disk that it is a part of, `EINVAL` for an unknown kind, `EFBIG` when what is to be known of its
/// pages would take too large a part of this machine's memory, `ENOMEM`. `ETIMEDOUT` when the disk's
/// I/O does not end within ten seconds, or its queue is kept frozen; `EINTR` when a signal comes
/// before.
pub const ATTACH: u32 = number(WRITE, 1, Target::SIZE);

/// Detaches a filter, writing back first what only the host has: takes a [`Target`]. May take long;
/// a signal ends it with `EINTR`, and the filter stays attached.
///
/// `ENOENT` when none is attached, `EBUSY` when it is being detached already, `EAGAIN` when the host
/// is away and has pages that are needed, `EIO` when pages could not be written back, `ETIMEDOUT` as
/// above.
pub const DETACH: u32 = number(WRITE, 2, Target::SIZE);

/// Reads one [`Filter`]; its field `position` says which, counted from 0.
///
/// `ENOENT` when there are not as many.
pub const GET_FILTER: u32 = number(READ | WRITE, 3, Filter::SIZE);

/// Reads the [`Status`].
pub const GET_STATUS: u32 = number(READ, 4, Status::SIZE);

/// Begins to give free memory back to the host; no argument. Once begun, it goes on when the host's
/// device goes and comes back.
///
/// `EBUSY` when another driver reports free memory already, `EOPNOTSUPP` when the kernel does not
/// have free page reporting or fills free pages with a pattern, `ENOMEM`.
pub const GIVE_BACK: u32 = number(NONE, 5, 0);

/// Ends it; no argument. Memory that the host has comes back when it is used.
pub const KEEP: u32 = number(NONE, 6, 0);

/// Reads the [`GivenBack`].
pub const GET_GIVEN_BACK: u32 = number(READ, 7, GivenBack::SIZE);

/// Attaches a filter of [`Kind::Shared`] to a block device: takes a [`SharedTarget`].
///
/// As [`ATTACH`]; and `ETXTBSY` when the device can be written to and nobody has said that it is not,
/// `ENOSYS` when the host has no shares, `EACCES` when it has none of this name for this machine,
/// `ENOTUNIQ` when there is a filter with this share, `ENOSPC` when as many shares are in use as can be,
/// `EAGAIN` when the host does not answer.
pub const ATTACH_SHARED: u32 = number(WRITE, 8, SharedTarget::SIZE);

/// Attaches a filter of [`Kind::Shared`] to a block device below dm-verity, with a verified share: takes a
/// [`VerifiedTarget`].
///
/// As [`ATTACH_SHARED`]; and `ENXIO` also when there is no such hash device, `EINVAL` also when it does
/// not have that many hashes, `ENOSYS` and `EACCES` also when the host has no verified shares, or this is none.
pub const ATTACH_VERIFIED: u32 = number(WRITE, 9, VerifiedTarget::SIZE);

/// What the pages of a filter are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Clean blocks of a filesystem; in an ephemeral pool.
    Precache = 1,
    /// Pages that are swapped out; in a persistent pool.
    Preswap = 2,
    /// As [`Self::Precache`], but they are put when the kernel evicts them, and removed when they are
    /// read again.
    Victim = 3,
    /// Blocks of a disk that nobody writes to, in a share that other machines with the same disk have,
    /// too. See [`ATTACH_SHARED`]; [`ATTACH`] does not take it.
    Shared = 4,
}

impl Kind {
    /// The kind with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Precache),
            2 => Some(Self::Preswap),
            3 => Some(Self::Victim),
            4 => Some(Self::Shared),
            _ => None,
        }
    }
}

/// How a filter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// The host's device is not there: everything goes to the disk.
    Waiting = 1,
    /// Pages go to the host.
    Active = 2,
    /// Pages are being written back.
    Detaching = 3,
    /// The disk is gone: the filter goes, too, as soon as nobody uses it.
    Gone = 4,
}

impl State {
    /// The state with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Waiting, Self::Active, Self::Detaching, Self::Gone]
            .into_iter()
            .find(|state| *state as u32 == number)
    }
}

/// Whether a filter of [`Kind::Shared`] uses its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ShareUse {
    /// It does when the host gives it the share: it is asked now and then.
    Waiting = 1,
    /// It does.
    Used = 2,
    /// Not any more: the disk was written to.
    Written = 3,
    /// Not any more: the disk is another one, or has another size, or nobody has used it for a moment.
    Unknown = 4,
}

impl ShareUse {
    /// The use with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Waiting, Self::Used, Self::Written, Self::Unknown]
            .into_iter()
            .find(|it| *it as u32 == number)
    }
}

/// Copies the bytes at `at`; those beyond the end of `from` read as zero.
fn take<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    if let Some(bytes) = from.get(at..at + N) {
        field.copy_from_slice(bytes);
    }
    field
}

/// Copies `field` to `at`; one that does not fit whole is left out.
fn give(to: &mut [u8], at: usize, field: &[u8]) {
    if let Some(bytes) = to.get_mut(at..at + field.len()) {
        bytes.copy_from_slice(field);
    }
}

/// A block device, and what is to be attached to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// A [`Kind`]; not looked at by [`DETACH`].
    pub kind: u32,
}

impl Target {
    /// Bytes of the structure; the last 4 are reserved.
    pub const SIZE: usize = 16;

    /// Writes the structure.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &self.major.to_ne_bytes());
        give(&mut to, 4, &self.minor.to_ne_bytes());
        give(&mut to, 8, &self.kind.to_ne_bytes());
        to
    }

    /// Reads the structure. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        Self {
            major: u32::from_ne_bytes(take(from, 0)),
            minor: u32::from_ne_bytes(take(from, 4)),
            kind: u32::from_ne_bytes(take(from, 8)),
        }
    }
}

/// A block device, and the share that its blocks are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedTarget {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bits: [`SharedTarget::IMMUTABLE`]; others are refused.
    pub flags: u32,
    /// The share's UUID, in the order in which it is written.
    pub share: [u8; 16],
}

impl SharedTarget {
    /// Bytes of the structure; bytes 12 to 16 are reserved.
    pub const SIZE: usize = 32;

    /// In [`Self::flags`]: nobody writes to the device, though it can be written to.
    pub const IMMUTABLE: u32 = 1;

    /// Writes the structure.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &self.major.to_ne_bytes());
        give(&mut to, 4, &self.minor.to_ne_bytes());
        give(&mut to, 8, &self.flags.to_ne_bytes());
        give(&mut to, 16, &self.share);
        to
    }

    /// Reads the structure. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        Self {
            major: u32::from_ne_bytes(take(from, 0)),
            minor: u32::from_ne_bytes(take(from, 4)),
            flags: u32::from_ne_bytes(take(from, 8)),
            share: take(from, 16),
        }
    }
}

/// A block device below dm-verity, and the verified share that its blocks are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedTarget {
    /// The device, and the share.
    pub shared: SharedTarget,
    /// Major number of the device that has the hashes; it may be the same device.
    pub hash_major: u32,
    /// Minor number.
    pub hash_minor: u32,
    /// Where the hashes of the blocks begin on it, one of 32 bytes for each, side by side: a multiple of
    /// 4096 bytes.
    pub hashes: u64,
    /// Blocks of 4096 bytes that have one, from the device's beginning on.
    pub blocks: u64,
}

impl VerifiedTarget {
    /// Bytes of the structure; the last 8 are reserved.
    pub const SIZE: usize = SharedTarget::SIZE + 32;

    /// Writes the structure.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &self.shared.encode());
        give(&mut to, 32, &self.hash_major.to_ne_bytes());
        give(&mut to, 36, &self.hash_minor.to_ne_bytes());
        give(&mut to, 40, &self.hashes.to_ne_bytes());
        give(&mut to, 48, &self.blocks.to_ne_bytes());
        to
    }

    /// Reads the structure. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        Self {
            shared: SharedTarget::decode(&take(from, 0)),
            hash_major: u32::from_ne_bytes(take(from, 32)),
            hash_minor: u32::from_ne_bytes(take(from, 36)),
            hashes: u64::from_ne_bytes(take(from, 40)),
            blocks: u64::from_ne_bytes(take(from, 48)),
        }
    }
}

/// An attached filter. All counts are of pages, and since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Which filter, counted from 0: the one field that [`GET_FILTER`] reads.
    pub position: u32,
    /// Major number of its block device.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// A [`Kind`].
    pub kind: u32,
    /// A [`State`].
    pub state: u32,
    /// Pages that the host should have now.
    pub pages: u64,
    /// Pages read from the host.
    pub hits: u64,
    /// Pages that were read from the disk.
    pub misses: u64,
    /// Pages that the host has taken.
    pub puts: u64,
    /// Pages that the host has refused.
    pub refused: u64,
    /// Pages that were not put: read once only, no room to copy them to, or written to meanwhile.
    pub skipped: u64,
    /// Pages that are no longer valid on the host, because they were written, discarded or freed.
    pub invalidates: u64,
    /// Pages that the host was asked for and did not have any more.
    pub vanished: u64,
    /// Pages written back to the disk.
    pub written_back: u64,
    /// Pages that were lost with the host, or could not be read or written.
    pub errors: u64,
    /// Pages that the kernel has evicted, of which it was known where they were from.
    pub evicted: u64,
    /// Of those, pages that were not what had been read.
    pub changed: u64,
    /// Bytes of memory that the module takes to know about the pages.
    pub known_bytes: u64,
    /// The UUID of its share; zeros for a filter of another kind.
    pub share: [u8; 16],
    /// A [`ShareUse`]; 0 for a filter of another kind.
    pub share_use: u32,
    /// 1 when the share is a verified one.
    pub is_verified: u32,
    /// Pages that were read from the disk because their hash was not at hand.
    pub nameless: u64,
}

impl Filter {
    /// Bytes of the structure; those not named are reserved.
    pub const SIZE: usize = 160;

    /// Writes the structure.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        let words = [self.position, self.major, self.minor, self.kind, self.state];
        for (i, word) in words.into_iter().enumerate() {
            give(&mut to, i * 4, &word.to_ne_bytes());
        }
        for (i, count) in self.counts().into_iter().enumerate() {
            give(&mut to, 24 + i * 8, &count.to_ne_bytes());
        }
        give(&mut to, Self::SHARE, &self.share);
        give(&mut to, Self::SHARE + 16, &self.share_use.to_ne_bytes());
        give(&mut to, Self::SHARE + 20, &self.is_verified.to_ne_bytes());
        give(&mut to, Self::SHARE + 24, &self.nameless.to_ne_bytes());
        to
    }

    /// Reads the structure. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        let word = |i: usize| u32::from_ne_bytes(take(from, i * 4));
        let count = |i: usize| u64::from_ne_bytes(take(from, 24 + i * 8));
        Self {
            position: word(0),
            major: word(1),
            minor: word(2),
            kind: word(3),
            state: word(4),
            pages: count(0),
            hits: count(1),
            misses: count(2),
            puts: count(3),
            refused: count(4),
            skipped: count(5),
            invalidates: count(6),
            vanished: count(7),
            written_back: count(8),
            errors: count(9),
            evicted: count(10),
            changed: count(11),
            known_bytes: count(12),
            share: take(from, Self::SHARE),
            share_use: u32::from_ne_bytes(take(from, Self::SHARE + 16)),
            is_verified: u32::from_ne_bytes(take(from, Self::SHARE + 20)),
            nameless: u64::from_ne_bytes(take(from, Self::SHARE + 24)),
        }
    }

    /// Where the share is: behind the counts.
    const SHARE: usize = 24 + 13 * 8;

    fn counts(&self) -> [u64; 13] {
        [
            self.pages,
            self.hits,
            self.misses,
            self.puts,
            self.refused,
            self.skipped,
            self.invalidates,
            self.vanished,
            self.written_back,
            self.errors,
            self.evicted,
            self.changed,
            self.known_bytes,
        ]
    }
}

/// The module and its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// 1 when the device is there and answers.
    pub is_attached: u32,
    /// Bytes that the host grants this machine.
    pub quota_bytes: u64,
    /// Bytes that it held when last asked.
    pub held_bytes: u64,
    /// Pages on the swap disk `/dev/tmem0`, 0 when there is none.
    pub swap_pages: u64,
    /// 1 when this machine's memory is encrypted, so that the host cannot read it (SEV, TDX).
    pub is_confidential: u32,
}

impl Status {
    /// Bytes of the structure; those not named are reserved.
    pub const SIZE: usize = 64;

    /// Writes the structure.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &self.version.to_ne_bytes());
        give(&mut to, 4, &self.is_attached.to_ne_bytes());
        give(&mut to, 8, &self.quota_bytes.to_ne_bytes());
        give(&mut to, 16, &self.held_bytes.to_ne_bytes());
        give(&mut to, 24, &self.swap_pages.to_ne_bytes());
        give(&mut to, 32, &self.is_confidential.to_ne_bytes());
        to
    }

    /// Reads the structure. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        Self {
            version: u32::from_ne_bytes(take(from, 0)),
            is_attached: u32::from_ne_bytes(take(from, 4)),
            quota_bytes: u64::from_ne_bytes(take(from, 8)),
            held_bytes: u64::from_ne_bytes(take(from, 16)),
            swap_pages: u64::from_ne_bytes(take(from, 24)),
            is_confidential: u32::from_ne_bytes(take(from, 32)),
        }
    }
}

/// Memory that is given back to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenBack {
    /// 1 when free memory is given back.
    pub is_on: u32,
    /// 1 when the host's device is there and takes memory back.
    pub is_able: u32,
    /// Bytes of free memory that the host was given so far.
    pub given_bytes: u64,
    /// Bytes of those that the host did not take.
    pub refused_bytes: u64,
    /// Requests that were made for it.
    pub requests: u64,
    /// Reports that were put off, because the device was away.
    pub postponed: u64,
    /// Bytes of this machine's memory that can be given back, as the host sees it; 0 if unknown.
    pub memory_bytes: u64,
    /// Bytes of them that the host backs now.
    pub backed_bytes: u64,
}

impl GivenBack {
    /// Bytes of the structure; those not named are reserved.
    pub const SIZE: usize = 80;

    /// Writes the structure.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut to = [0; Self::SIZE];
        give(&mut to, 0, &self.is_on.to_ne_bytes());
        give(&mut to, 4, &self.is_able.to_ne_bytes());
        let counts = [
            self.given_bytes,
            self.refused_bytes,
            self.requests,
            self.postponed,
            self.memory_bytes,
            self.backed_bytes,
        ];
        for (i, count) in counts.into_iter().enumerate() {
            give(&mut to, 8 + i * 8, &count.to_ne_bytes());
        }
        to
    }

    /// Reads the structure. Judges nothing.
    pub fn decode(from: &[u8; Self::SIZE]) -> Self {
        let count = |i: usize| u64::from_ne_bytes(take(from, 8 + i * 8));
        Self {
            is_on: u32::from_ne_bytes(take(from, 0)),
            is_able: u32::from_ne_bytes(take(from, 4)),
            given_bytes: count(0),
            refused_bytes: count(1),
            requests: count(2),
            postponed: count(3),
            memory_bytes: count(4),
            backed_bytes: count(5),
        }
    }
}
