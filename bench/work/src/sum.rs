// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A sum that an emulated CPU is quick at. It finds bytes that are wrong or in
//! the wrong place; nobody forges them.

/// Odd, with half of its bits set: the golden ratio's.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sum over bytes in their order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes. How many at a time matters: all but the last must be
    /// multiples of eight.
    pub fn add(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            self.word(word);
        }
        for byte in words.remainder() {
            self.word(u64::from(*byte) | 0x100);
        }
    }

    fn word(&mut self, word: u64) {
        // Plus one: zeros count, too.
        let mixed = (self.0 ^ word).wrapping_mul(FACTOR).wrapping_add(1);
        self.0 = mixed.rotate_left(29);
    }

    /// The sum.
    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u64 {
        let mut sum = Sum::default();
        sum.add(bytes);
        sum.value()
    }

    #[test]
    fn order_length_and_content_matter() {
        let bytes: Vec<u8> = (0..64).collect();
        let mut other = bytes.clone();
        other.swap(3, 40);
        assert_ne!(sum(&bytes), sum(&other));
        assert_ne!(sum(&bytes), sum(&bytes[..63]));
        assert_ne!(sum(&[0; 8]), sum(&[0; 16]));
        assert_eq!(sum(&bytes), sum(&bytes.clone()));
    }
}
