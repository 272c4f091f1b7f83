// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Making room within a client.

use std::sync::atomic::Ordering::Relaxed;

use super::{Account, Shortage};
use crate::memory::SPAN_COST;
use crate::types::PoolKind;

impl Account {
    /// Whether there are ephemeral pages to evict.
    pub(crate) fn can_evict(&self) -> bool {
        self.counters.ephemeral_pages.get() > 0
    }

    /// Whether a put of a new persistent page would be refused now.
    pub(crate) fn is_full(&self) -> bool {
        /// Freed pages after which a put is worth trying again.
        const WORTHWHILE: u64 = 16;
        if self.is_frozen() {
            return true;
        }
        let (held, quota) = (self.held(), self.quota());
        let room_in_client = held.saturating_add(SPAN_COST) <= quota;
        if (room_in_client && self.shared.has_room()) || self.can_evict() {
            return false;
        }
        let hopeless = self.heap.free_bytes() == 0
            || held > quota
            || self.freed_since_refusal.load(Relaxed) < WORTHWHILE;
        // The others' ephemeral pages come last: asking takes a lock.
        hopeless && !(room_in_client && self.shared.can_evict())
    }

    /// Whether waiting pages, when compressed, may give back what is short.
    pub(super) fn can_squeeze(&self, shortage: Shortage) -> bool {
        match shortage {
            Shortage::Pool => false,
            Shortage::Client => self.has_waiting(),
            Shortage::Store | Shortage::System => self.shared.has_waiting(),
        }
    }

    /// Makes room for a put to a pool of `kind`, other than in a pool's own
    /// quota; whether it is worth trying again.
    pub(crate) fn make_room(&self, shortage: Shortage, kind: PoolKind) -> bool {
        match shortage {
            Shortage::Pool => false,
            Shortage::Client => self.trim() || self.squeeze() || self.evict() > 0,
            Shortage::Store | Shortage::System => self.shared.make_room(self, kind),
        }
    }

    /// Evicts the oldest block of the client's ephemeral pools and returns
    /// how many pages it had.
    pub(crate) fn evict(&self) -> u64 {
        /// Looks for a block that was not used, before any will do.
        const SPARING: u32 = 64;
        /// Looks for a block at all.
        const MOST: u32 = 1024;
        if !self.can_evict() {
            return 0;
        }
        let pools = self.pools();
        let ephemeral = || {
            pools
                .values()
                .filter(|pool| pool.kind() == PoolKind::Ephemeral)
        };
        // A shard may be emptied between the look and the eviction, or all its
        // blocks may be in use; those that are spared are spared once.
        for round in 0..MOST {
            let oldest = ephemeral()
                .filter_map(|pool| pool.oldest().map(|(stamp, shard)| (stamp, shard, pool)))
                .min_by_key(|(stamp, ..)| *stamp);
            let Some((_, shard, pool)) = oldest else {
                return 0;
            };
            match pool.evict(shard, round < SPARING) {
                0 => {}
                pages => return pages,
            }
        }
        0
    }
}
