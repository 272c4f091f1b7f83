// SPDX-License-Identifier: GPL-2.0

//! Fingerprints of pages: 64 bits by which a page is known again, with a secret key.
//!
//! The words of a page are hashed by NH, of UMAC (Black, Halevi, Krawczyk, Krovetz and Rogaway: "UMAC:
//! fast and secure message authentication", 1999), with words of 64 bits: a secret number is added to
//! each, and the products of pairs are added up modulo 2^128. The two halves of that are hashed to
//! 64 bits by a multilinear function with numbers of 128 bits. For each of the two it is proved that two
//! inputs, whatever they are, come to the same for at most one key in 2^64, so two pages have the
//! same fingerprint for at most one in 2^63: whoever chooses pages does not know the key, and is never
//! shown a fingerprint. A checksum without a key, or with a short one that is mixed in, promises
//! nothing about pages that were chosen.
//!
//! One multiplication for each 16 bytes, and none waits for another.

use kernel::prelude::*;

/// Words of a page.
pub(crate) const WORDS: usize = kernel::page::PAGE_SIZE / 8;

/// Words that are hashed at a time: an even number that divides those of a page, and enough that what
/// it takes to go on does not matter.
pub(crate) const STEP: usize = 8;

/// Numbers of 64 bits in a key: one for each word, and three of 128 bits.
pub(crate) const NUMBERS: usize = WORDS + 6;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

/// NH of some words. Each is named, so that none is copied to memory first.
fn nh(words: [u64; STEP], numbers: [u64; STEP]) -> u128 {
    let [a, b, c, d, e, f, g, h] = words;
    let [i, j, k, l, m, n, o, p] = numbers;
    let product = |(word, number): (u64, u64), (next, other): (u64, u64)| {
        u128::from(word.wrapping_add(number)) * u128::from(next.wrapping_add(other))
    };
    product((a, i), (b, j))
        .wrapping_add(product((c, k), (d, l)))
        .wrapping_add(product((e, m), (f, n)))
        .wrapping_add(product((g, o), (h, p)))
}

/// The secret.
pub(crate) struct Key(KVVec<u64>);

impl Key {
    /// From [`NUMBERS`] random numbers.
    pub(crate) fn new(numbers: KVVec<u64>) -> Self {
        Self(numbers)
    }

    /// The fingerprint of a page, of which these are the words.
    pub(crate) fn fingerprint(&self, words: impl Iterator<Item = [u64; STEP]>) -> Fingerprint {
        let (of_words, last) = self.0.split_at(WORDS.min(self.0.len()));
        let of_words = of_words.chunks_exact(STEP).map(<[u64; STEP]>::try_from);
        let sum = words.zip(of_words).fold(0u128, |sum, pair| match pair {
            (words, Ok(numbers)) => sum.wrapping_add(nh(words, numbers)),
            _ => sum,
        });
        let mut numbers = last.chunks_exact(2).map(|pair| match pair {
            [low, high] => u128::from(*low) | u128::from(*high) << 64,
            _ => 0,
        });
        let mut hash = numbers.next().unwrap_or(0);
        for (half, number) in [sum as u64, (sum >> 64) as u64].iter().zip(numbers) {
            hash = hash.wrapping_add(number.wrapping_mul(u128::from(*half)));
        }
        Fingerprint((hash >> 64) as u64)
    }
}
