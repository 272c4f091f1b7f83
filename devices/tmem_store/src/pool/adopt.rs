// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages that an earlier store has left.

use super::Pages;
use crate::index::{Key, OutOfRoom, split};
use crate::stats::Counters;
use crate::tier::{Content, LeftPage};
use crate::types::PoolKind;

impl Pages {
    /// Keeps pages of one shard, each in place of an older one, whatever the quota. With each
    /// comes the time when it was put, by the clock of the client's blocks; they come in this
    /// order. Shards may be filled at the same time.
    ///
    /// # Errors
    /// When there is no memory for the index. Pages that it has no room for are freed.
    pub(crate) fn adopt(&self, shard: usize, pages: Vec<(u64, LeftPage)>) -> Result<(), OutOfRoom> {
        // Counted in one go, because other threads count as well; and first, because others
        // may evict what is in the index.
        let counters = Counters::default();
        let mut bytes = 0;
        for (_, page) in &pages {
            if self.tag.is_visible() {
                counters.kept(self.kind(), &page.entry);
            }
            bytes += page.entry.footprint() as u64;
        }
        self.budget.counters.keep(&counters);
        self.charge_self_anyway(bytes);
        self.change(shard, |change| {
            // The block of the page before: often the same, and none goes meanwhile.
            let (mut last, mut result) = (None, Ok(()));
            for (time, page) in pages {
                let (block, nth) = split(page.index);
                let name = (page.object, block);
                let stamp = match self.kind() {
                    PoolKind::Persistent => 0,
                    PoolKind::Ephemeral => time,
                };
                let content = Content::Entry(page.entry);
                // What the index grows by is charged afterwards.
                let number = match last {
                    Some((of_last, number)) if of_last == name => Ok(number),
                    _ => {
                        let key = Key::new(&self.seed, &page.object, block);
                        change.shard.prepare(&key, stamp, &mut |_| true)
                    }
                };
                last = number.ok().map(|number| (name, number));
                let old = match number {
                    Ok(number) => change.shard.put(number, nth, stamp, content),
                    Err(error) => {
                        result = Err(error);
                        Some(content)
                    }
                };
                if let Some(old) = change.buried(old) {
                    self.free(old);
                }
            }
            result
        })
    }
}
