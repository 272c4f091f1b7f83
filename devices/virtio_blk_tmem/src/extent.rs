// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Stretches of bytes of a disk, and the blocks that they lie in.

use std::ops::Range;

use tmem_store::PAGE_SIZE;

use crate::limits::BLOCK;

/// A part of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) block: u64,
    /// Bytes of the block.
    pub(crate) range: Range<usize>,
}

impl Part {
    /// What of `bytes` lies in `block`.
    pub(crate) fn of(block: u64, bytes: &Range<u64>) -> Self {
        let start = block.saturating_mul(BLOCK);
        let within = |at: u64| usize::try_from(at.saturating_sub(start).min(BLOCK)).unwrap_or(0);
        Self {
            block,
            range: within(bytes.start)..within(bytes.end),
        }
    }

    /// Whether it is the whole block.
    pub(crate) fn is_whole(&self) -> bool {
        self.range == (0..PAGE_SIZE)
    }
}

/// The blocks that `bytes` lie in, and what of each.
pub(crate) fn parts(bytes: Range<u64>) -> impl Iterator<Item = Part> {
    let blocks = bytes.start / BLOCK..bytes.end.div_ceil(BLOCK);
    blocks
        .map(move |block| Part::of(block, &bytes))
        .filter(|part| !part.range.is_empty())
}

/// The first and the last of the blocks that lie in `bytes` as a whole.
pub(crate) fn whole_blocks(bytes: &Range<u64>) -> Option<(u64, u64)> {
    let first = bytes.start.div_ceil(BLOCK);
    let end = bytes.end / BLOCK;
    (first < end).then(|| (first, end - 1))
}

/// What of `bytes` lies in blocks of which other bytes lie elsewhere: at most the first and the
/// last.
pub(crate) fn edges(bytes: &Range<u64>) -> impl Iterator<Item = Part> + use<> {
    let first = Part::of(bytes.start / BLOCK, bytes);
    let last = Part::of(bytes.end / BLOCK, bytes);
    let is_one = first.block == last.block;
    let both = [Some(first), (!is_one).then_some(last)];
    let is_edge = |part: &Part| !part.is_whole() && !part.range.is_empty();
    both.into_iter().flatten().filter(is_edge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_the_bytes_in_order(start in 0..20_000_u64, len in 0..20_000_u64) {
            let mut at = start;
            for part in parts(start..start + len) {
                prop_assert_eq!(part.block * BLOCK + part.range.start as u64, at);
                at += part.range.len() as u64;
            }
            prop_assert_eq!(at, start + len);
        }

        #[test]
        fn edges_and_whole_blocks_are_the_bytes(start in 0..20_000_u64, len in 0..20_000_u64) {
            let bytes = start..start + len;
            let whole = whole_blocks(&bytes);
            let whole = whole.into_iter().flat_map(|(first, last)| first..=last);
            let whole = whole.map(|block| Part { block, range: 0..PAGE_SIZE });
            let mut both: Vec<_> = edges(&bytes).chain(whole).collect();
            both.sort_by_key(|part| part.block);
            prop_assert_eq!(both, parts(bytes).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_last_byte_that_can_be_named_is_no_trouble() {
        let bytes = u64::MAX - 10..u64::MAX;
        assert_eq!(whole_blocks(&bytes), None);
        assert_eq!(edges(&bytes).count(), 1);
    }
}
