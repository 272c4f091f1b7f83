// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Flushes.

use super::Pages;
use crate::index::{Key, SHARDS, STRIPE_BLOCKS, Walk, split};
use crate::types::ObjectId;
use std::ops::Range;

impl Pages {
    /// See [`crate::Pool::flush_ranges_while`].
    pub(crate) fn flush_ranges_while(
        &self,
        object: &ObjectId,
        ranges: &mut [(u64, u64)],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<u64> {
        let ranges = joined(ranges);
        // First: what is above is seen as long as it is there.
        let mut pages = self.hide_ranges(object, ranges, go_on)?;
        let mut ended = true;
        for shard in self.shards_of(object, ranges) {
            let mut walk = Walk::Start;
            while ended && walk != Walk::Done {
                pages += self.change(shard, |change| {
                    let free = &mut |content| self.free(content);
                    change.shard.flush(object, ranges, shard, &mut walk, free)
                });
                ended = walk == Walk::Done || go_on();
            }
        }
        self.budget.counters.flushed_pages.add(pages);
        ended.then_some(pages)
    }

    /// The shards that ranges of an object, in order and apart from each other, are in.
    pub(super) fn shards_of(&self, object: &ObjectId, ranges: &[(u64, u64)]) -> Range<usize> {
        match *ranges {
            [] => 0..0,
            [(first, last)] if stripe(first) == stripe(last) => {
                let shard = Key::new(&self.seed, object, split(first).0).shard();
                shard..shard + 1
            }
            _ => 0..SHARDS,
        }
    }

    /// See [`crate::Pool::drain_while`].
    pub(crate) fn drain_while(&self, go_on: &mut dyn FnMut() -> bool) -> Option<u64> {
        let below = self.cut_below();
        let (own, ended) = self.drain_itself(go_on);
        let pages = below + own;
        self.budget.counters.destroyed_pages.add(pages);
        let ended = ended && self.drain_whiteouts(go_on);
        ended.then_some(pages)
    }

    /// Removes pages of the pool itself; how many, and whether these were all.
    pub(super) fn drain_itself(&self, go_on: &mut dyn FnMut() -> bool) -> (u64, bool) {
        /// Blocks removed before a lock is yielded.
        const PIECE: u32 = 256;
        let mut pages = 0;
        for shard in 0..SHARDS {
            loop {
                let removed = self.change(shard, |change| {
                    let free = &mut |content| self.free(content);
                    change.shard.drain(PIECE, free)
                });
                let Some(removed) = removed else {
                    break;
                };
                pages += removed;
                if !go_on() {
                    return (pages, false);
                }
            }
        }
        (pages, true)
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
