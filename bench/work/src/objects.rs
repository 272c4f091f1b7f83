// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory as a service in Python has it: objects with counts, types, hashes and
//! pointers, laid out as CPython does on 64 bits. lz4 makes half of it, which is
//! what compressed swap commonly reports.

use crate::database::WORDS;
use fastrand::Rng;

/// Where types and objects are.
const TYPES: u64 = 0x55d0_c0de_1a40;
const OBJECTS: u64 = 0x7f3a_1000_0000;

/// Distances between two types, and two objects.
const TYPE: u64 = 0x1a0;
const ALIGN: usize = 16;

/// Objects that are pointed to.
const POOL: u64 = 1 << 20;

/// What a short, compact string of ASCII has beside its length and hash.
const STATE: u64 = 0x64;

/// Objects, `bytes` of them and a little more.
pub(crate) fn make(random: &mut Rng, bytes: usize) -> Vec<u8> {
    let mut memory = Vec::with_capacity(bytes + 128);
    while memory.len() < bytes {
        // Most objects have one owner.
        let owners = random.u64(0..5).saturating_sub(1).max(1);
        match random.u8(0..4) {
            0 => string(&mut memory, random, owners, false),
            1 => string(&mut memory, random, owners, true),
            2 => {
                let value = f64::from(random.u32(0..1_000_000)) / 100.0;
                words(&mut memory, &[owners, TYPES + TYPE, value.to_bits()]);
            }
            _ => {
                words(&mut memory, &[owners, TYPES + 2 * TYPE, 4]);
                for _ in 0..4 {
                    words(&mut memory, &[OBJECTS + random.u64(0..POOL) * 16]);
                }
            }
        }
        memory.resize(memory.len().next_multiple_of(ALIGN), 0);
    }
    memory
}

fn string(memory: &mut Vec<u8>, random: &mut Rng, owners: u64, has_number: bool) {
    let word = WORDS.get(random.usize(0..WORDS.len())).copied();
    let mut text = word.unwrap_or_default().to_string();
    if has_number {
        text.push_str(&format!("={}", random.u32(0..10_000)));
    }
    let hash = random.u64(..);
    words(memory, &[owners, TYPES, text.len() as u64, hash, STATE]);
    memory.extend_from_slice(text.as_bytes());
    memory.push(0);
}

fn words(memory: &mut Vec<u8>, words: &[u64]) {
    for word in words {
        memory.extend_from_slice(&word.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_aligned_and_follow_from_the_seed() {
        let memory = make(&mut Rng::with_seed(1), 1 << 16);
        assert!(memory.len() >= 1 << 16 && memory.len().is_multiple_of(ALIGN));
        assert_eq!(memory, make(&mut Rng::with_seed(1), 1 << 16));
        assert_ne!(memory, make(&mut Rng::with_seed(2), 1 << 16));
    }
}
