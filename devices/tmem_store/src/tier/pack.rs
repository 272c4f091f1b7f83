// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Segments that are made outside of page memory, to be written or sent elsewhere. They have the
//! layout of those in it ([`super::format`]), and no dead entries.

use super::SEGMENT;
use super::format::{
    self, Damaged, Found, HEADER, MAX_NAMES, NAME, Name, Place, SegmentHeader, State, Word,
    footprint, to_u16,
};
use super::owner::{Codec, Owner, Payload, PoolTag};
use super::spill::SegmentBlocks;
use crate::types::{Identity, ObjectId};
use crate::words;

/// A segment that is being made.
#[derive(Debug)]
pub(crate) struct Packer {
    blocks: Box<SegmentBlocks>,
    sequence: u64,
    used: usize,
    names: Vec<(PoolTag, ObjectId)>,
}

/// Where an entry of such a segment is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedAt {
    pub(super) offset: usize,
    pub(super) codec: Codec,
    pub(super) len: u16,
}

impl Packer {
    /// The memory for one.
    pub(crate) fn new() -> Self {
        Self {
            blocks: Box::new(SegmentBlocks::new()),
            sequence: 0,
            used: SegmentHeader::BYTES,
            names: Vec::new(),
        }
    }

    /// Begins another one.
    pub(crate) fn begin(&mut self, sequence: u64) {
        self.blocks.fill(0);
        self.sequence = sequence;
        self.used = SegmentHeader::BYTES;
        self.names.clear();
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == SegmentHeader::BYTES
    }

    /// Adds an entry; `None` if it does not fit.
    pub(crate) fn push(&mut self, owner: &Owner<'_>, payload: Payload<'_>) -> Option<PackedAt> {
        let name = (owner.pool, *owner.object);
        // Pages of one object come after each other.
        let known = self.names.iter().rposition(|known| *known == name);
        let of_name = if known.is_some() { 0 } else { NAME };
        let takes = footprint(payload.bytes.len());
        if self.used + of_name + takes > SEGMENT
            || (known.is_none() && self.names.len() >= usize::from(MAX_NAMES))
        {
            return None;
        }
        let number = to_u16(known.unwrap_or(self.names.len()));
        if known.is_none() {
            self.names.push(name);
            let word = Word {
                state: State::Live,
                is_name: true,
                codec: Codec::Raw,
                len: to_u16(size_of::<ObjectId>()),
                name: number,
            };
            self.write(word, owner.pool.word(), owner.object)?;
        }
        let place = PackedAt {
            offset: self.used,
            codec: payload.codec,
            len: to_u16(payload.bytes.len()),
        };
        let word = Word {
            state: State::Live,
            is_name: false,
            codec: place.codec,
            len: place.len,
            name: number,
        };
        self.write(word, owner.index, payload.bytes)?;
        Some(place)
    }

    fn write(&mut self, word: Word, second: u64, payload: &[u8]) -> Option<()> {
        let place = Place {
            sequence: self.sequence,
            offset: self.used,
        };
        let first = word.live(place, second, payload);
        let end = self.used + HEADER + payload.len();
        let to = self.blocks.get_mut(self.used..end)?;
        let (header, to) = to.split_at_mut_checked(HEADER)?;
        words::put(header, &[first, second]);
        to.copy_from_slice(payload);
        self.used += footprint(payload.len());
        Some(())
    }

    /// Writes its header, which is that of a segment of this client.
    pub(crate) fn end(&mut self, identity: Identity) -> SegmentHeader {
        let header = SegmentHeader {
            identity,
            sequence: self.sequence,
        };
        words::put(&mut self.blocks, &header.encode());
        header
    }

    /// What was added, once it has its header, and zeros.
    pub(super) fn blocks(&self) -> &SegmentBlocks {
        &self.blocks
    }

    /// Bytes of it that are used.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Names in it.
    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    /// As far as it is used, once it has its header.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.blocks.get(..self.used).unwrap_or_default()
    }
}

/// The pages of a packed segment.
#[derive(Debug)]
pub(crate) struct Unpacked<'a> {
    bytes: &'a [u8],
    names: Vec<Name>,
    pages: Vec<Found>,
}

impl<'a> Unpacked<'a> {
    /// Those of a segment with this number.
    ///
    /// # Errors
    /// When it is not as it was packed.
    pub(crate) fn of(bytes: &'a [u8], sequence: u64) -> Result<Self, Damaged> {
        let start = bytes.first_chunk().ok_or(Damaged)?;
        let header = SegmentHeader::from_bytes(start)?.ok_or(Damaged)?;
        let mut pages = Vec::new();
        let extent = format::scan(bytes, &header, |_, found| pages.push(found))?;
        // The scan ends at a word that is 0.
        let is_whole = extent.used == bytes.len() && header.sequence == sequence;
        let unpacked = Self {
            bytes,
            names: extent.names,
            pages,
        };
        (is_whole && unpacked.is_padded())
            .then_some(unpacked)
            .ok_or(Damaged)
    }

    /// Whether there are zeros where nothing is: no checksum covers that.
    fn is_padded(&self) -> bool {
        self.pages.iter().all(|found| {
            let (start, len) = (found.offset as usize, usize::from(found.len));
            let padding = self.bytes.get(start + HEADER + len..start + footprint(len));
            padding.is_some_and(|padding| padding.iter().all(|byte| *byte == 0))
        })
    }

    /// Its pages, in the order in which they were added.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (Owner<'_>, Payload<'a>)> {
        self.pages.iter().filter_map(|found| {
            // A page is found only if its name and payload are.
            let Name { pool, object } = self.names.get(usize::from(found.name))?;
            let start = found.offset as usize + HEADER;
            let payload = self.bytes.get(start..start + usize::from(found.len))?;
            let owner = Owner {
                pool: *pool,
                object,
                index: found.index,
            };
            let payload = Payload {
                codec: found.codec,
                bytes: payload,
            };
            Some((owner, payload))
        })
    }
}
