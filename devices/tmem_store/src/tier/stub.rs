// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What stays in page memory of a segment whose entries are in a spill area.
//!
//! A *stub* is at the start of the segment: a header of [`Stub::WORDS`] words, and a bitmap with one
//! bit for each place where an entry may begin, which is set while the entry there is live. In the spill
//! area is a segment as [`format`](super::format) describes it, in which all entries are live: so an
//! entry becomes live, and dead, by one store to memory, and nothing that was spilled is written again.

use super::SEGMENT;
use super::format::{ALIGN, Damaged, SegmentHeader};
use crate::area::SegmentKey;
use crate::types::Identity;
use crate::words;

/// Where a segment is in a spill area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    /// The first one is the area's own.
    pub(crate) fn new(number: u32) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// What is in it, of the segment with this header.
    pub(crate) fn key(self, header: &SegmentHeader) -> SegmentKey {
        SegmentKey {
            slot: self.0,
            client: header.identity,
            sequence: header.sequence,
        }
    }
}

/// What a stub says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stub {
    /// Of the segment that was spilled.
    pub(crate) header: SegmentHeader,
    pub(crate) slot: Slot,
    /// Bytes from the start of the slot that the segment takes, at most [`SEGMENT`].
    pub(crate) used: u32,
    /// The identity of the spill area.
    pub(crate) area: u64,
}

impl Stub {
    /// Words of its header.
    pub(crate) const WORDS: usize = 8;

    /// Bytes of its header.
    pub(crate) const BYTES: usize = Self::WORDS * ALIGN;

    /// Bytes of memory behind a spilled segment.
    pub(crate) const MEMORY: usize = 4096;

    /// The version of the layout that a stub has: who knows version 1 alone refuses the file.
    pub(crate) const VERSION: u32 = 2;

    const MAGIC: u64 = SegmentHeader::NAME as u64 | (Self::VERSION as u64) << 32;

    /// The first word is to be stored last.
    pub(crate) fn encode(&self) -> [u64; Self::WORDS] {
        let [high, low] = self.header.identity.to_words();
        let place = u64::from(self.slot.0) | u64::from(self.used) << 32;
        let words = [
            Self::MAGIC,
            self.header.sequence,
            high,
            low,
            place,
            self.area,
            0,
        ];
        let [a, b, c, d, e, f, g] = words;
        [a, b, c, d, e, f, g, words::crc(&words)]
    }

    /// The stub that a segment begins with; `None` if it begins with something else.
    ///
    /// # Errors
    /// [`Damaged`] when it is not as it was written.
    #[expect(clippy::cast_possible_truncation, reason = "takes halves apart")]
    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Option<Self>, Damaged> {
        let [first, sequence, high, low, place, area, zero, sum] = words::first(bytes);
        if first != Self::MAGIC {
            return Ok(None);
        }
        let used = (place >> 32) as u32;
        let is_right = sum == words::crc(&[first, sequence, high, low, place, area, zero])
            && (SegmentHeader::BYTES..=SEGMENT).contains(&(used as usize));
        let slot = Slot::new(place as u32).filter(|_| is_right);
        Ok(Some(Self {
            header: SegmentHeader {
                identity: Identity::from_words([high, low]),
                sequence,
            },
            slot: slot.ok_or(Damaged)?,
            used,
            area,
        }))
    }

    /// What a stub in memory says of the segment in a slot; `word` reads the stub's words.
    pub(crate) fn key(slot: Slot, word: impl Fn(usize) -> Option<u64>) -> Option<SegmentKey> {
        let identity = Identity::from_words([word(2)?, word(3)?]);
        let sequence = word(1)?;
        Some(slot.key(&SegmentHeader { identity, sequence }))
    }

    /// Bytes from the start of the segment to the word of the bitmap for an entry that begins at
    /// `offset`, and the entry's bit in it.
    pub(crate) fn live_bit(offset: usize) -> (usize, u64) {
        let nth = offset / ALIGN;
        (Self::BYTES + nth / 64 * ALIGN, 1 << (nth % 64))
    }
}

const _: () = assert!(Stub::BYTES + SEGMENT / ALIGN / 8 <= Stub::MEMORY);

#[cfg(test)]
mod tests {
    use super::*;

    fn stub() -> Stub {
        Stub {
            header: SegmentHeader {
                identity: Identity::new([7; 16]),
                sequence: 1 << 40,
            },
            slot: Slot::new(u32::MAX).unwrap(),
            used: 1000,
            area: 0x1234_5678_9abc_def0,
        }
    }

    fn bytes(words: [u64; Stub::WORDS]) -> [u8; Stub::BYTES] {
        let mut bytes = [0; Stub::BYTES];
        words::put(&mut bytes, &words);
        bytes
    }

    #[test]
    fn a_stub_is_read_as_it_was_written_and_any_flipped_bit_is_seen() {
        let written = bytes(stub().encode());
        assert_eq!(Stub::from_bytes(&written), Ok(Some(stub())));
        for bit in 0..Stub::BYTES * 8 {
            let mut flipped = written;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(Stub::from_bytes(&flipped), Ok(Some(_))), "{bit}");
        }
    }

    #[test]
    fn a_segment_in_memory_is_no_stub_and_the_other_way_round() {
        let mut words = [0; Stub::WORDS];
        words[..SegmentHeader::WORDS].copy_from_slice(&stub().header.encode());
        assert_eq!(Stub::from_bytes(&bytes(words)), Ok(None));
        let written = bytes(stub().encode());
        let start = written.first_chunk().unwrap();
        assert_eq!(SegmentHeader::from_bytes(start), Err(Damaged));
        assert_eq!(SegmentHeader::other_version(start), Some(Stub::VERSION));
    }

    #[test]
    fn each_place_has_a_bit_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for offset in (0..SEGMENT).step_by(ALIGN) {
            let (word, bit) = Stub::live_bit(offset);
            assert!(word >= Stub::BYTES && word + ALIGN <= Stub::MEMORY);
            assert!(seen.insert((word, bit)));
        }
    }
}
