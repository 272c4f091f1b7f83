// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Damage to page memory. The layout is that of `tmem_store`, version 1; it is written
//! down here anew, so that a change of it does not go unseen.

use tmem_store::Identity;

use super::Bytes;

/// Bytes of a segment, and of its header.
pub(super) const SEGMENT: usize = 128 << 10;
const SEGMENT_HEADER: usize = 40;
/// Bytes of the header of an entry.
const HEADER: usize = 16;

/// What may be believed of damaged memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// Anything: what was written has right checksums.
    None,
    /// Pages may be missing, as if they were never put. Those that are there are right.
    Part,
    /// All pages of a client, or none: checksums find each change.
    Whole,
}

/// What was done.
#[derive(Debug)]
pub(super) struct Damage {
    pub(super) trust: Trust,
    /// Whose segments were damaged.
    pub(super) owners: Vec<Identity>,
    count: u8,
}

impl Damage {
    pub(super) fn is_any(&self) -> bool {
        self.count > 0 || self.trust == Trust::None
    }
}

/// Damages page memory as `data` says.
pub(super) fn damaged(bytes: &mut Vec<u8>, is_signed: bool, data: &mut Bytes<'_>) -> Damage {
    let count = data.u8() % 8;
    let mut damage = Damage {
        trust: if is_signed { Trust::None } else { Trust::Whole },
        owners: Vec::new(),
        count,
    };
    let mut hit = Vec::new();
    for _ in 0..count {
        let kind = data.u8();
        let nth = usize::from(data.u8()) % (bytes.len() / SEGMENT).max(1);
        let place = usize::from(data.u16()) * 2;
        let (len, more) = (usize::from(data.u8()), data.u32());
        let start = nth * SEGMENT;
        if let Some(owner) = bytes.get(start + 16..start + 32) {
            damage.owners.push(Identity::new(owner.try_into().unwrap()));
        }
        let trust = match kind % 8 {
            0 | 1 if !hit.contains(&nth) => {
                flip(bytes, start + place, kind, more);
                Trust::Whole
            }
            2 => {
                fill(bytes, start + place, len, |_| 0);
                Trust::Part
            }
            3 => {
                fill(bytes, start + place, len, |at| noise(at as u64, more));
                Trust::Part
            }
            4 => {
                // From another place, perhaps all of a segment.
                let from = more as usize % bytes.len().max(1);
                let (from, to, len) = match len {
                    0 => (from / SEGMENT * SEGMENT, start, SEGMENT),
                    len => (from, start + place, len * 16),
                };
                let copy: Vec<_> = bytes.iter().skip(from).take(len).copied().collect();
                fill(bytes, to, copy.len(), |at| copy[at]);
                Trust::Part
            }
            5 => {
                bytes.truncate(start + place);
                Trust::Part
            }
            6 => {
                if let Some(segment) = bytes.get_mut(start..start + SEGMENT) {
                    lie(segment, place / 2 % 64, len, more);
                }
                Trust::None
            }
            _ => {
                let words = more.to_le_bytes();
                fill(bytes, start + place, 4, |at| words[at]);
                Trust::None
            }
        };
        hit.push(nth);
        damage.trust = damage.trust.min(trust);
    }
    if is_signed {
        bytes.chunks_mut(SEGMENT).for_each(sign);
    }
    damage
}

/// Changes up to 32 bits in a row, which a CRC-32 is certain to find.
fn flip(bytes: &mut [u8], at: usize, kind: u8, bits: u32) {
    let mask = if kind & 8 == 0 { 1 << (bits % 8) } else { bits };
    for (byte, flip) in bytes.iter_mut().skip(at).zip(mask.to_le_bytes()) {
        *byte ^= flip;
    }
}

fn fill(bytes: &mut [u8], at: usize, len: usize, byte: impl Fn(usize) -> u8) {
    for (nth, to) in bytes.iter_mut().skip(at).take(len).enumerate() {
        *to = byte(nth);
    }
}

/// Bytes that the fuzzer cannot choose, or it would find right checksums.
fn noise(at: u64, seed: u32) -> u8 {
    let mixed = (at << 32 | u64::from(seed)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*word))
}

fn set_word(bytes: &mut [u8], at: usize, word: u64) {
    if let Some(to) = bytes.get_mut(at..at + 8) {
        to.copy_from_slice(&word.to_le_bytes());
    }
}

/// Where the entry after the one at `at` begins.
fn next(at: usize, first: u64) -> usize {
    let len = (first >> 7 & 0x1fff) as usize;
    at + HEADER + len.next_multiple_of(8)
}

/// Changes what the header of an entry says.
fn lie(segment: &mut [u8], skip: usize, field: usize, bits: u32) {
    let mut at = SEGMENT_HEADER;
    for _ in 0..skip {
        match word(segment, at) {
            Some(first) if first != 0 => at = next(at, first),
            _ => break,
        }
    }
    let (Some(first), Some(second)) = (word(segment, at), word(segment, at + 8)) else {
        return;
    };
    match field % 4 {
        0 => set_word(segment, at, first ^ u64::from(bits)),
        1 => set_word(segment, at + 8, second ^ u64::from(bits)),
        2 => set_word(segment, at + 8, second ^ u64::from(bits) << 32),
        _ => set_word(segment, (bits as usize % SEGMENT_HEADER) & !7, second),
    }
}

/// Makes the checksums of a segment right, whatever it says.
pub(super) fn sign(segment: &mut [u8]) {
    let (Some(head), Some(sequence)) = (segment.get(..32), word(segment, 8)) else {
        return;
    };
    if word(segment, 0) == Some(0) {
        return;
    }
    let crc = crc32fast::hash(head);
    set_word(segment, 32, crc.into());
    let mut at = SEGMENT_HEADER;
    while let (Some(first), Some(second)) = (word(segment, at), word(segment, at + 8)) {
        let low = first & 0xffff_ffff;
        if low == 0 {
            break;
        }
        let after = next(at, first);
        let len = (first >> 7 & 0x1fff) as usize;
        // Only what is live has its payload in its checksum.
        let (second, payload) = match first & 3 {
            2 => (second, segment.get(at + HEADER..at + HEADER + len)),
            _ => (0, Some(&[][..])),
        };
        let mut crc = crc32fast::Hasher::new();
        for word in [sequence, (at as u64) << 32 | low, second] {
            crc.update(&word.to_le_bytes());
        }
        crc.update(payload.unwrap_or_default());
        set_word(segment, at, u64::from(crc.finalize()) << 32 | low);
        at = after;
    }
}
