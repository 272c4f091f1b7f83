// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Entries of a log: where they are, and who holds them.

use std::marker::PhantomData;

use super::MAX_SEGMENTS;
use super::format::{ALIGN, HEADER, Word, footprint};
use super::owner::Codec;
use super::spill::SegmentBlocks;
use crate::counters::Form;

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

    /// Bytes of page memory that the entry takes, its header included.
    pub(crate) fn footprint(self) -> usize {
        footprint(self.len())
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
    /// What its header says.
    pub(super) word: Word,
    pub(super) index: u64,
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

impl From<&Entry> for Form {
    fn from(entry: &Entry) -> Self {
        let bytes = entry.len() as u64;
        match entry.codec() {
            Some(Codec::Raw) => Self::Raw,
            Some(Codec::Same) => Self::Same,
            Some(Codec::Zstd) => Self::Zstd(bytes),
            Some(Codec::Lz4) | None => Self::Lz4(bytes),
        }
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
    pub(crate) fn of(entry: &'a Entry) -> Self {
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

    pub(crate) fn location(self) -> Location {
        self.location
    }

    /// Whether it is the entry at `location`.
    pub(crate) fn is_at(self, location: Location) -> bool {
        self.location == location
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

    pub(crate) fn location(&self) -> Location {
        self.location
    }
}

/// A segment that is cleaned: sealed, and referred to until it is given back.
#[derive(Debug)]
#[must_use = "a segment that stays referred to is memory lost"]
pub(crate) struct Victim {
    segment: u32,
    used: usize,
    is_recompressed: bool,
    /// What is in it, if that is not in memory.
    blocks: Option<Box<SegmentBlocks>>,
    /// It was to be read, and could not be.
    is_unread: bool,
}

impl Victim {
    /// To be called only when a sealed segment's references were counted up for it.
    pub(super) fn new(segment: u32, used: usize, is_recompressed: bool) -> Self {
        Self {
            segment,
            used,
            is_recompressed,
            blocks: None,
            is_unread: false,
        }
    }

    /// The same with what is in it, which was read.
    pub(super) fn with_blocks(self, blocks: Box<SegmentBlocks>) -> Self {
        Self {
            blocks: Some(blocks),
            ..self
        }
    }

    /// The same, whose entries could not be read.
    pub(super) fn unread(self) -> Self {
        Self {
            is_unread: true,
            ..self
        }
    }

    /// Whether its entries could not be read.
    pub(super) fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// Whether its entries are in memory.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.blocks.is_none()
    }

    pub(super) fn blocks(&self) -> Option<&SegmentBlocks> {
        self.blocks.as_deref()
    }

    /// Whether its entries are as small as they get.
    pub(crate) fn is_recompressed(&self) -> bool {
        self.is_recompressed
    }

    pub(super) fn segment(&self) -> u32 {
        self.segment
    }

    /// Whether no entry begins at `offset`, because all come before.
    pub(crate) fn ends_at(&self, offset: usize) -> bool {
        offset + HEADER > self.used
    }

    /// Bytes from the start of the segment that entries take.
    pub(super) fn used(&self) -> usize {
        self.used
    }
}
