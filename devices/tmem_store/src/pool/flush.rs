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
        self.flush_range(object, (index, last))
    }

    /// Removes every page of an object and returns how many were there.
    pub fn flush_object(&self, object: &ObjectId) -> u64 {
        self.flush_range(object, (0, u64::MAX))
    }

    fn flush_range(&self, object: &ObjectId, range: (u64, u64)) -> u64 {
        let (first, last) = (split(range.0).0, split(range.1).0);
        let pages = if first / STRIPE_BLOCKS == last / STRIPE_BLOCKS {
            let shard = Key::new(&self.seed, object, first).shard();
            self.flush_shard(object, range, shard)
        } else {
            (0..SHARDS)
                .map(|shard| self.flush_shard(object, range, shard))
                .sum()
        };
        self.account.counters.flushed_pages.add(pages);
        pages
    }

    fn flush_shard(&self, object: &ObjectId, range: (u64, u64), shard: usize) -> u64 {
        self.change(shard, |change| {
            let free = &mut |content| self.free(content);
            change.shard.flush(object, range, shard, free)
        })
    }
}
