// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What an entry of a log says: whose it is, and what its payload is.

use crate::types::{ObjectId, PoolKind};

/// A pool, among all that a client has or had: its number, its kind, and how many
/// pools the client had made before it, modulo 2^31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolTag(u64);

impl PoolTag {
    /// Bits of the count.
    const COUNTED: u64 = (1 << 31) - 1;

    pub(crate) fn new(id: u32, kind: PoolKind, made: u64) -> Self {
        let kind = match kind {
            PoolKind::Persistent => 0,
            PoolKind::Ephemeral => 1,
        };
        Self(u64::from(id) | (made & Self::COUNTED) << 32 | kind << 63)
    }

    pub(super) fn from_word(word: u64) -> Self {
        Self(word)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// Set in the numbers of pools that only the store knows.
    const HIDDEN: u32 = 1 << 31;

    /// The number of the pool for what is not seen below the pool `id`.
    pub(crate) const fn hiding(id: u32) -> u32 {
        id | Self::HIDDEN
    }

    /// The number of the pool that says which pools see nothing below any more.
    pub(crate) const MARKS: u32 = u32::MAX;

    /// A pool that only the store knows: a client has no more than one with its number, ever.
    pub(crate) fn hidden(id: u32) -> Self {
        Self::new(id, PoolKind::Persistent, 0)
    }

    /// Most pools that a client has.
    pub(crate) const MOST: u32 = Self::HIDDEN - 1;

    /// Whether its client knows of it.
    pub(crate) fn is_visible(self) -> bool {
        self.id() & Self::HIDDEN == 0
    }

    /// The client's number of the pool that this one hides something of.
    pub(crate) fn visible_id(self) -> u32 {
        self.id() & !Self::HIDDEN
    }

    /// The client's number of the pool.
    #[expect(clippy::cast_possible_truncation, reason = "takes bit fields apart")]
    pub(crate) fn id(self) -> u32 {
        self.0 as u32
    }

    pub(crate) fn kind(self) -> PoolKind {
        if self.0 >> 63 == 0 {
            PoolKind::Persistent
        } else {
            PoolKind::Ephemeral
        }
    }

    /// Pools that the client had made before.
    pub(crate) fn made(self) -> u64 {
        self.0 >> 32 & Self::COUNTED
    }
}

/// To whom an entry belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner<'a> {
    pub(crate) pool: PoolTag,
    pub(crate) object: &'a ObjectId,
    pub(crate) index: u64,
}

/// What the payload of an entry is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// The page as it is.
    Raw,
    /// An LZ4 block.
    Lz4,
    /// A Zstandard frame.
    Zstd,
    /// The eight bytes that the page repeats; none if it is zeros.
    Same,
}

impl Codec {
    /// As headers and locations have it, with 4 bits.
    pub(super) fn to_bits(self) -> u64 {
        match self {
            Self::Raw => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
            Self::Same => 3,
        }
    }

    /// `None` if no codec has this number.
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        match bits & 0xf {
            0 => Some(Self::Raw),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            3 => Some(Self::Same),
            _ => None,
        }
    }
}

/// The payload of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload<'a> {
    pub(crate) codec: Codec,
    pub(crate) bytes: &'a [u8],
}
