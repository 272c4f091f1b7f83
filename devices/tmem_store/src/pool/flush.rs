// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Flushes.

use super::Pool;
use crate::index::{Key, SHARDS, STRIPE_BLOCKS, split};
use crate::types::ObjectId;

impl Pool {
    /// Removes the pages `index..index + count` and returns how many were
    /// there. The range ends at 2^64 at the latest. The cost depends on the
    /// pages present, not on `count`.
    pub fn flush(&self, object: &ObjectId, index: u64, count: u64) -> u64 {
        let Some(last) = count.checked_sub(1).map(|more| index.saturating_add(more)) else {
            return 0;
        };
        self.flush_ranges(object, &mut [(index, last)])
    }

    /// Removes every page of an object and returns how many were there.
    pub fn flush_object(&self, object: &ObjectId) -> u64 {
        self.flush_ranges(object, &mut [(0, u64::MAX)])
    }

    /// Removes the pages of some ranges of an object, from the first index to the last, and returns
    /// how many were there. The ranges may overlap and come in any order; they are put in order and
    /// joined in place. The cost is that of the blocks in all ranges or that of the object's blocks,
    /// whichever are fewer: ranges do not multiply it.
    pub fn flush_ranges(&self, object: &ObjectId, ranges: &mut [(u64, u64)]) -> u64 {
        let ranges = joined(ranges);
        let pages = match *ranges {
            [] => 0,
            [(first, last)] if stripe(first) == stripe(last) => {
                let shard = Key::new(&self.seed, object, split(first).0).shard();
                self.flush_shard(object, ranges, shard)
            }
            _ => (0..SHARDS)
                .map(|shard| self.flush_shard(object, ranges, shard))
                .sum(),
        };
        self.account.counters.flushed_pages.add(pages);
        pages
    }

    fn flush_shard(&self, object: &ObjectId, ranges: &[(u64, u64)], shard: usize) -> u64 {
        self.change(shard, |change| {
            let free = &mut |content| self.free(content);
            change.shard.flush(object, ranges, shard, free)
        })
    }
}

/// The stretch of an object that an index is in, which lies in one shard.
fn stripe(index: u64) -> u64 {
    split(index).0 / STRIPE_BLOCKS
}

/// The same indices, in ranges that are in order and do not touch each other.
fn joined(ranges: &mut [(u64, u64)]) -> &[(u64, u64)] {
    ranges.sort_unstable();
    let mut count = 0_usize;
    for at in 0..ranges.len() {
        let Some((first, last)) = ranges.get(at).copied() else {
            break;
        };
        let before = count.checked_sub(1).and_then(|at| ranges.get_mut(at));
        match before {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => {
                if let Some(to) = ranges.get_mut(count) {
                    *to = (first, last);
                    count += 1;
                }
            }
        }
    }
    ranges.get(..count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn ranges_are_put_in_order_and_joined() {
        for (ranges, expected) in [
            (vec![], vec![]),
            (vec![(3, 5)], vec![(3, 5)]),
            (vec![(6, 9), (3, 5)], vec![(3, 9)]),
            (
                vec![(7, 9), (3, 5), (4, 4), (0, 1)],
                vec![(0, 1), (3, 5), (7, 9)],
            ),
            (
                vec![(0, u64::MAX), (5, 6), (u64::MAX, u64::MAX)],
                vec![(0, u64::MAX)],
            ),
        ] {
            let mut ranges = ranges;
            assert_eq!(joined(&mut ranges), expected);
        }
    }
}
