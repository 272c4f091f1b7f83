// SPDX-License-Identifier: GPL-2.0

//! Fingerprints of pages: 64 bits by which a page is known again, with a secret key.
//!
//! The words of a page are multiplied by secret random numbers of 128 bits, the products and one more
//! such number are added up modulo 2^128, and the upper half of the sum is the fingerprint. Of
//! such multilinear functions it is proved that two pages, whatever they are, have the same
//! fingerprint for at most one key in 2^64: whoever chooses pages does not know the key, and is never
//! shown a fingerprint. A checksum without a key, or with a short one that is mixed in, promises
//! nothing about pages that were chosen.
//!
//! Three multiplications for each 8 bytes, and none waits for another.

use kernel::prelude::*;

/// Words of a page.
pub(crate) const WORDS: usize = kernel::page::PAGE_SIZE / 8;

/// Numbers of 64 bits in a key: two for each word, and two more.
pub(crate) const NUMBERS: usize = 2 * (WORDS + 1);

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

/// The secret.
pub(crate) struct Key(KVVec<u64>);

impl Key {
    /// From [`NUMBERS`] random numbers.
    pub(crate) fn new(numbers: KVVec<u64>) -> Self {
        Self(numbers)
    }

    /// The fingerprint of a page, of which these are the words.
    pub(crate) fn fingerprint(&self, words: impl Iterator<Item = u64>) -> Fingerprint {
        let mut numbers = self.0.chunks_exact(2).map(|pair| match pair {
            [low, high] => u128::from(*low) | u128::from(*high) << 64,
            _ => 0,
        });
        let mut sum = numbers.next().unwrap_or(0);
        for (word, number) in words.zip(numbers) {
            sum = sum.wrapping_add(number.wrapping_mul(u128::from(word)));
        }
        Fingerprint((sum >> 64) as u64)
    }
}
