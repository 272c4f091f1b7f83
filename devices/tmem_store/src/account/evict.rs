// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Making room within a client.

use crate::sync::Arc;
use crate::sync::atomic::Ordering::Relaxed;

use super::{Account, Shortage};
use crate::pool::Pool;
use crate::reclaim::Effort;
use crate::tier::{PIECE, SEGMENT};
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
        let room_in_client = held.saturating_add(PIECE as u64) <= quota;
        if (room_in_client && self.shared.has_room()) || self.can_evict() {
            return false;
        }
        let hopeless = self.log.dead_bytes() < SEGMENT as u64
            || held > quota
            || self.freed_since_refusal.load(Relaxed) < WORTHWHILE;
        // The others' ephemeral pages come last: asking takes a lock.
        hopeless && !(room_in_client && self.shared.can_evict())
    }

    /// Makes room for a put to a pool of `kind`, other than in a pool's own
    /// quota; whether it is worth trying again.
    pub(crate) fn make_room(
        &self,
        shortage: Shortage,
        kind: PoolKind,
        effort: &mut Effort,
    ) -> bool {
        if !effort.is_left() {
            return false;
        }
        match shortage {
            Shortage::Pool => false,
            Shortage::Client => {
                self.trim()
                    || self.compress_now(effort, true)
                    || self.clean(effort, true).is_memory()
                    || self.evict(effort, true) > 0
            }
            Shortage::Store | Shortage::System => self.shared.make_room(self, kind, effort),
        }
    }

    /// Gives up what holds nothing, or else some ephemeral pages; whether there was any.
    pub(crate) fn give_up(&self, effort: &mut Effort, patient: bool) -> bool {
        self.clean(effort, patient).is_memory() || self.evict(effort, patient) > 0
    }

    /// Evicts the oldest block of the client's ephemeral pools and returns
    /// how many pages it had. Only the `patient` wait for a shard's lock.
    pub(crate) fn evict(&self, effort: &mut Effort, patient: bool) -> u64 {
        /// Looks for a block that was not used, before any will do.
        const SPARING: u32 = 64;
        let mut looks = 0;
        // A shard may be emptied between the look and the eviction, or all its
        // blocks may be in use; those that are spared are spared once.
        while self.can_evict() && effort.look() {
            let Some((shard, pool)) = self.oldest() else {
                return 0;
            };
            match pool.evict(shard, looks < SPARING, patient) {
                Some(0) => {}
                Some(pages) => return pages,
                None => crate::sync::thread::yield_now(),
            }
            looks += 1;
        }
        0
    }

    /// The pool with the oldest block, and the shard that it is in.
    fn oldest(&self) -> Option<(usize, Arc<Pool>)> {
        let pools = self.pools();
        let ephemeral = pools.values().filter(|p| p.kind() == PoolKind::Ephemeral);
        let oldest = ephemeral
            .filter_map(|pool| pool.oldest().map(|(stamp, shard)| (stamp, shard, pool)))
            .min_by_key(|(stamp, ..)| *stamp);
        oldest.map(|(_, shard, pool)| (shard, pool.clone()))
    }

    /// Changes the quota. The client is brought within it in the background, or
    /// at once if nobody works there.
    pub(crate) fn change_quota(&self, bytes: u64) {
        self.set_quota(bytes);
        self.shrinks.store(true, Relaxed);
        if self.shared.helpers.load(Relaxed) > 0 {
            self.shared.shrinks.store(true, Relaxed);
            self.shared.wake();
            return;
        }
        while self.shrink(&mut Effort::background()) {}
    }

    /// Brings a client whose quota was changed within it, as far as it can be;
    /// whether there is more to do.
    pub(crate) fn shrink(&self, effort: &mut Effort) -> bool {
        if !self.shrinks.swap(false, Relaxed) {
            return false;
        }
        while self.is_beyond_quota() {
            if !effort.is_left() || !effort.may_compress() {
                self.shrinks.store(true, Relaxed);
                return true;
            }
            if !self.trim()
                && !self.compress_now(effort, true)
                && !self.clean(effort, true).is_memory()
                && self.evict(effort, true) == 0
            {
                // Unless the effort has just ended, what is left has to stay.
                if effort.is_left() && effort.may_compress() {
                    return false;
                }
            }
        }
        false
    }
}
