// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Entries of a log: where they are, and what their headers say.
//!
//! An entry is [`HEADER`] bytes and its payload, padded to 8 bytes. The header is
//! two words: the first says what the entry is ([`Word`]), the second is the
//! page's index in its object, or the number of the pool of a name. A *name* is
//! an entry whose payload is an object's id: entries after it in the segment
//! name their object by the number of that entry.

use std::marker::PhantomData;

use super::MAX_SEGMENTS;
use crate::types::{ObjectId, PAGE_SIZE};

/// Bytes of an entry's header.
pub(super) const HEADER: usize = 16;

/// Entries begin at multiples of so many bytes.
pub(super) const ALIGN: usize = 8;

/// Names in a segment; after so many it is closed.
pub(super) const MAX_NAMES: u16 = 1 << 12;

/// Bytes that an entry with so many bytes of payload takes.
pub(super) const fn footprint(len: usize) -> usize {
    HEADER + len.next_multiple_of(ALIGN)
}

/// To whom an entry belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner<'a> {
    /// The client's number of the pool.
    pub(crate) pool: u32,
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
}

impl Codec {
    /// As headers and locations have it, with 4 bits.
    fn to_bits(self) -> u64 {
        match self {
            Self::Raw => 0,
            Self::Lz4 => 1,
        }
    }

    /// `None` if no codec has this number.
    fn from_bits(bits: u64) -> Option<Self> {
        match bits & 0xf {
            0 => Some(Self::Raw),
            1 => Some(Self::Lz4),
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

/// What an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Being written: it has a length, but no payload yet.
    Open,
    /// Complete.
    Live,
    /// Freed.
    Dead,
}

/// The first word of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) state: State,
    /// Whether it is a name, rather than a page.
    pub(super) is_name: bool,
    /// Of a page.
    pub(super) codec: Codec,
    /// Bytes of payload, at most [`PAGE_SIZE`].
    pub(super) len: u16,
    /// The number of the object's name, or of this name.
    pub(super) name: u16,
}

impl Word {
    pub(super) fn encode(self) -> u64 {
        let state = match self.state {
            State::Open => 1,
            State::Live => 2,
            State::Dead => 3,
        };
        state
            | u64::from(self.is_name) << 2
            | self.codec.to_bits() << 3
            | u64::from(self.len) << 8
            | u64::from(self.name) << 24
    }

    /// `None` if it makes no sense.
    #[expect(clippy::cast_possible_truncation, reason = "takes bit fields apart")]
    pub(super) fn decode(word: u64) -> Option<Self> {
        let state = match word & 3 {
            1 => State::Open,
            2 => State::Live,
            3 => State::Dead,
            _ => return None,
        };
        let codec = Codec::from_bits(word >> 3)?;
        let len = (word >> 8) as u16;
        (usize::from(len) <= PAGE_SIZE).then_some(Self {
            state,
            is_name: word >> 2 & 1 == 1,
            codec,
            len,
            name: (word >> 24) as u16,
        })
    }
}

/// Where an entry is, as an index keeps it: 13 bits of length, 14 of offset, 24
/// of segment, and 4 of codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location(u64);

impl Location {
    pub(super) fn new(segment: u32, offset: usize, codec: Codec, len: u16) -> Self {
        let at = (offset / ALIGN) as u64;
        let codec = codec.to_bits();
        Self(u64::from(len) | at << 13 | u64::from(segment) << 27 | codec << 51)
    }

    pub(super) fn from_word(word: u64) -> Self {
        Self(word)
    }

    pub(super) fn word(self) -> u64 {
        self.0
    }

    /// Bytes of payload.
    pub(crate) fn len(self) -> usize {
        (self.0 & 0x1fff) as usize
    }

    /// Bytes from the start of the segment to the header.
    pub(super) fn offset(self) -> usize {
        (self.0 >> 13 & 0x3fff) as usize * ALIGN
    }

    #[expect(clippy::cast_possible_truncation, reason = "takes bit fields apart")]
    pub(super) fn segment(self) -> u32 {
        (self.0 >> 27) as u32 % MAX_SEGMENTS
    }

    /// What the payload is made with; `None` if this build does not know it.
    pub(crate) fn codec(self) -> Option<Codec> {
        Codec::from_bits(self.0 >> 51)
    }
}

/// An entry that is being written, by its holder alone.
#[derive(Debug)]
#[must_use = "an entry that is not freed is memory lost"]
pub(super) struct Draft {
    pub(super) location: Location,
}

/// A complete entry. Its payload never changes; it is freed by its holder.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an entry that is not freed is memory lost"]
pub(crate) struct Entry {
    location: Location,
}

impl Entry {
    /// To be called once for a draft that was filled, or for what
    /// [`Entry::into_location`] returned.
    pub(super) fn new(location: Location) -> Self {
        Self { location }
    }

    pub(super) fn into_location(self) -> Location {
        self.location
    }

    #[cfg(test)]
    pub(super) fn location(&self) -> Location {
        self.location
    }

    /// Bytes of payload.
    pub(crate) fn len(&self) -> usize {
        self.location.len()
    }

    /// What the payload is made with.
    pub(crate) fn codec(&self) -> Option<Codec> {
        self.location.codec()
    }

    /// Bytes of page memory that it takes, its header included.
    pub(crate) fn footprint(&self) -> usize {
        footprint(self.len())
    }
}

/// An entry that is borrowed from where it rests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryRef<'a> {
    location: Location,
    owner: PhantomData<&'a Entry>,
}

impl<'a> EntryRef<'a> {
    /// Borrows an entry.
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self {
            location: entry.location,
            owner: PhantomData,
        }
    }

    /// To be called only while `_owner` holds the entry.
    pub(super) fn new<T>(location: Location, _owner: &'a T) -> Self {
        Self {
            location,
            owner: PhantomData,
        }
    }

    pub(super) fn location(self) -> Location {
        self.location
    }
}

/// Keeps the payload of an entry in place, even if the entry is freed meanwhile.
#[derive(Debug)]
#[must_use = "a segment that stays pinned is memory lost"]
pub(crate) struct Pin {
    location: Location,
}

impl Pin {
    /// To be called only when the segment's references were counted up for it.
    pub(super) fn new(location: Location) -> Self {
        Self { location }
    }

    pub(super) fn location(&self) -> Location {
        self.location
    }
}

/// A segment that is cleaned: sealed, and referred to until it is given back.
#[derive(Debug)]
#[must_use = "a segment that stays referred to is memory lost"]
pub(crate) struct Victim {
    segment: u32,
    used: usize,
}

impl Victim {
    /// To be called only when a sealed segment's references were counted up for it.
    pub(super) fn new(segment: u32, used: usize) -> Self {
        Self { segment, used }
    }

    pub(super) fn segment(&self) -> u32 {
        self.segment
    }

    /// Bytes from the start of the segment that entries take.
    pub(super) fn used(&self) -> usize {
        self.used
    }
}
