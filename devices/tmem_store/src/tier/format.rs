// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The layout of page memory, by which an index can be made anew. Version 1.
//!
//! All numbers are little-endian words of 64 bits. The file is an array of
//! segments of [`SEGMENT`](super::SEGMENT) bytes. A segment whose first word is 0
//! is free. Else it begins with a [`SegmentHeader`], and entries follow without
//! gaps, until a word is 0 where a header would be, or the segment ends.
//!
//! An entry is a header of two words and its payload, padded to 8 bytes. The first
//! word says what the entry is ([`Word`]), the second is the page's index in its
//! object. A *name* is an entry whose second word is a [`PoolTag`] and whose payload is
//! an object's id: entries after it in the segment name their pool and object by
//! the number of that entry. Entries of the pool of a number that was made last count;
//! those of others were about to be freed.
//!
//! # What makes it safe to stop at any time
//!
//! The memory outlives the process that writes to it; only the process may stop,
//! between any two stores. An entry becomes live, and dead, by one store of its
//! first word; a segment becomes used by one store of its own. The word after an
//! entry is 0 before the entry is there. An entry takes the place of a dead one by one store,
//! too: payload and second word of what is dead do not count, and what is left behind the
//! new entry has a header of something dead by then. A page that is replaced or moved is live
//! twice for a moment: the new entry becomes live before the old one becomes dead.
//! That may be seen only while the operation is under way, and then both are right.
//!
//! # What makes it safe to believe
//!
//! Each header has a CRC-32, which finds any change of up to 32 bits in a row. That of a live
//! entry covers all that it says and its payload, and where it is: the segment's
//! sequence, and the offset there. So what an earlier use of the segment has left
//! is never taken for an entry.

use super::owner::{Codec, PoolTag};
use crate::types::{Identity, ObjectId, PAGE_SIZE};
use crate::words;

/// Bytes of an entry's header.
pub(crate) const HEADER: usize = 16;

/// Entries begin at multiples of so many bytes.
pub(crate) const ALIGN: usize = 8;

/// Names in a segment; after so many it is closed.
pub(super) const MAX_NAMES: u16 = 1 << 12;

/// Bytes that an entry with so many bytes of payload takes.
pub(crate) const fn footprint(len: usize) -> usize {
    HEADER + len.next_multiple_of(ALIGN)
}

/// At most a page.
#[expect(clippy::cast_possible_truncation, reason = "a page is small")]
pub(super) fn to_u16(bytes: usize) -> u16 {
    bytes as u16
}

/// Bytes that a name takes.
pub(crate) const NAME: usize = footprint(size_of::<ObjectId>());

/// What an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not yet what is kept of its page; its payload may be incomplete.
    Open,
    /// It is what is kept of its page.
    Live,
    /// It was freed.
    Dead,
}

/// What the first word of an entry's header says, but its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) state: State,
    /// Whether it is a name, rather than a page.
    pub(crate) is_name: bool,
    /// Of a page.
    pub(crate) codec: Codec,
    /// Bytes of payload, at most [`PAGE_SIZE`].
    pub(crate) len: u16,
    /// The number of the object's name, or of this name; less than [`MAX_NAMES`].
    pub(crate) name: u16,
}

/// Where a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The segment's.
    pub(crate) sequence: u64,
    /// Bytes from the start of the segment.
    pub(crate) offset: usize,
}

impl Word {
    /// Bits 0..2 state, 2 name, 3..7 codec, 7..20 length, 20..32 number of the name.
    fn low(self) -> u64 {
        let state = match self.state {
            State::Open => 1,
            State::Live => 2,
            State::Dead => 3,
        };
        state
            | u64::from(self.is_name) << 2
            | self.codec.to_bits() << 3
            | u64::from(self.len & 0x1fff) << 7
            | u64::from(self.name & 0xfff) << 20
    }

    /// Without a look at its checksum; `None` if it makes no sense.
    #[expect(clippy::cast_possible_truncation, reason = "takes bit fields apart")]
    pub(crate) fn decode(word: u64) -> Option<Self> {
        let state = match word & 3 {
            1 => State::Open,
            2 => State::Live,
            3 => State::Dead,
            _ => return None,
        };
        let codec = Codec::from_bits(word >> 3)?;
        let len = (word >> 7) as u16 & 0x1fff;
        (usize::from(len) <= PAGE_SIZE).then_some(Self {
            state,
            is_name: word >> 2 & 1 == 1,
            codec,
            len,
            name: (word >> 20) as u16 & 0xfff,
        })
    }

    /// The word of an entry whose payload does not count.
    pub(crate) fn without_payload(self, place: Place) -> u64 {
        self.with_crc(place, 0, &[])
    }

    /// The word of an entry that is live.
    pub(crate) fn live(self, place: Place, second: u64, payload: &[u8]) -> u64 {
        let live = Self {
            state: State::Live,
            ..self
        };
        live.with_crc(place, second, payload)
    }

    /// As [`Word::live`], of the second word and the payload as they follow each other in memory.
    fn live_over(self, place: Place, covered: &[u8]) -> u64 {
        let live = Self {
            state: State::Live,
            ..self
        };
        live.with_crc_over(place, [covered, &[]])
    }

    /// The word of an entry that is open, but complete: [`Word::PUBLISH`] makes it live.
    pub(crate) fn complete(self, place: Place, second: u64, payload: &[u8]) -> u64 {
        self.live(place, second, payload) ^ Self::PUBLISH
    }

    /// What makes a complete entry live: to be combined by exclusive or.
    pub(crate) const PUBLISH: u64 = 3;

    fn with_crc(self, place: Place, second: u64, payload: &[u8]) -> u64 {
        self.with_crc_over(place, [&second.to_le_bytes(), payload])
    }

    fn with_crc_over(self, place: Place, covered: [&[u8]; 2]) -> u64 {
        let low = self.low();
        let mut crc = crc32fast::Hasher::new();
        let words =
            u128::from(place.sequence) | u128::from((place.offset as u64) << 32 | low) << 64;
        crc.update(&words.to_le_bytes());
        for bytes in covered {
            crc.update(bytes);
        }
        u64::from(crc.finalize()) << 32 | low
    }
}

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Whose it is.
    pub(crate) identity: Identity,
    /// Counts the uses of the store's segments: what came later has a higher one.
    pub(crate) sequence: u64,
}

/// A segment's header makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

impl SegmentHeader {
    /// Words of it.
    pub(crate) const WORDS: usize = 5;

    /// Bytes of it.
    pub(crate) const BYTES: usize = Self::WORDS * 8;

    /// The version of the layout.
    pub(crate) const VERSION: u32 = 1;

    pub(super) const NAME: u32 = u32::from_le_bytes(*b"tmem");

    /// The first word: `tmem`, and the version of the layout.
    const MAGIC: u64 = Self::NAME as u64 | (Self::VERSION as u64) << 32;

    /// The first is to be stored last.
    pub(crate) fn encode(&self) -> [u64; Self::WORDS] {
        let identity = self.identity.to_words();
        let words = [Self::MAGIC, self.sequence, identity[0], identity[1]];
        let [a, b, c, d] = words;
        [a, b, c, d, words::crc(&words)]
    }

    /// `None` if the segment is free.
    ///
    /// # Errors
    /// [`Damaged`] when it is neither free nor of this version and right.
    pub(crate) fn decode(words: [u64; Self::WORDS]) -> Result<Option<Self>, Damaged> {
        let [first, sequence, high, low, crc] = words;
        if first == 0 {
            return Ok(None);
        }
        if first != Self::MAGIC || crc != words::crc(&[first, sequence, high, low]) {
            return Err(Damaged);
        }
        Ok(Some(Self {
            identity: Identity::from_words([high, low]),
            sequence,
        }))
    }

    /// As [`SegmentHeader::decode`], from what a segment begins with.
    ///
    /// # Errors
    /// See there.
    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Option<Self>, Damaged> {
        Self::decode(words::first(bytes))
    }

    /// The version of the layout of a segment that begins with these bytes, if it is another one.
    pub(crate) fn other_version(bytes: &[u8; Self::BYTES]) -> Option<u32> {
        let ([name, version, ..], _) = bytes.as_chunks::<4>() else {
            return None;
        };
        let version = u32::from_le_bytes(*version);
        let is_other = *name == Self::NAME.to_le_bytes() && version != Self::VERSION;
        is_other.then_some(version)
    }
}

/// What a name says: the pool and the object of the entries that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) pool: PoolTag,
    pub(crate) object: ObjectId,
}

/// A live page that was found in a segment. Many are remembered at a time: 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) index: u64,
    /// Bytes from the start of the segment to the header.
    pub(crate) offset: u32,
    /// Bytes of payload.
    pub(crate) len: u16,
    /// Number of its name in the segment.
    pub(crate) name: u16,
    pub(crate) codec: Codec,
}

/// What else was found in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes from its start that its header and entries take.
    pub(crate) used: usize,
    /// Its names, by number.
    pub(crate) names: Vec<Name>,
}

/// A live entry that begins `bytes`: its words, and its payload. `None` if it is not as it was
/// written at `place`.
pub(super) fn live_entry(bytes: &[u8], place: Place) -> Option<(Word, u64, &[u8])> {
    let [first, second] = words::first(bytes.get(..HEADER)?);
    let word = Word::decode(first)?;
    let payload = bytes.get(HEADER..HEADER + usize::from(word.len))?;
    (first == word.live(place, second, payload)).then_some((word, second, payload))
}

/// Looks through the bytes of a used segment.
///
/// # Errors
/// [`Damaged`] when anything in it is not as it was written. What `found` was told
/// is not to be believed then.
pub(crate) fn scan(
    segment: &[u8],
    header: &SegmentHeader,
    mut found: impl FnMut(&Name, Found),
) -> Result<Extent, Damaged> {
    let mut names = Vec::new();
    let mut at = SegmentHeader::BYTES;
    while let Some(rest) = segment.get(at..).filter(|rest| rest.len() >= ALIGN) {
        let (words, _) = rest.as_chunks::<8>();
        let first = words.first().map_or(0, |word| u64::from_le_bytes(*word));
        if first == 0 {
            break;
        }
        let second = words.get(1).ok_or(Damaged)?;
        let second = u64::from_le_bytes(*second);
        let word = Word::decode(first).ok_or(Damaged)?;
        let len = usize::from(word.len);
        let payload = rest.get(HEADER..HEADER + len).ok_or(Damaged)?;
        // The second word and the payload.
        let covered = rest.get(ALIGN..HEADER + len).ok_or(Damaged)?;
        let place = Place {
            sequence: header.sequence,
            offset: at,
        };
        let is_right = match word.state {
            State::Dead => first == word.without_payload(place),
            State::Live => first == word.live_over(place, covered),
            State::Open => {
                first == word.without_payload(place)
                    || first ^ Word::PUBLISH == word.live_over(place, covered)
            }
        };
        if !is_right {
            return Err(Damaged);
        }
        if word.is_name {
            // Names are never freed by themselves, and are numbered in order.
            let object: ObjectId = payload.try_into().map_err(|_| Damaged)?;
            if word.state != State::Live || usize::from(word.name) != names.len() {
                return Err(Damaged);
            }
            let pool = PoolTag::from_word(second);
            names.push(Name { pool, object });
        } else if word.state == State::Live {
            let name = names.get(usize::from(word.name)).ok_or(Damaged)?;
            let page = Found {
                index: second,
                offset: u32::try_from(at).map_err(|_| Damaged)?,
                len: word.len,
                name: word.name,
                codec: word.codec,
            };
            found(name, page);
        }
        at += footprint(len);
    }
    Ok(Extent {
        used: at.min(segment.len()),
        names,
    })
}
