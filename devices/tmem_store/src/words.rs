// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Headers that are words of 64 bits, little-endian, with a checksum.

/// The first words of `bytes`, zeros where it has none.
pub(crate) fn first<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// Writes `words` to the start of `bytes`, as far as there is room.
pub(crate) fn put(bytes: &mut [u8], words: &[u64]) {
    for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
}

/// The CRC-32 of `words`.
pub(crate) fn crc(words: &[u64]) -> u64 {
    let mut crc = crc32fast::Hasher::new();
    for word in words {
        crc.update(&word.to_le_bytes());
    }
    crc.finalize().into()
}
