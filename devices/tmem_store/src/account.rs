// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a client and its pools share: memory, quotas, counters.
//!
//! What a client holds is counted in bytes that the host really spends on it:
//! whole spans of page memory, the index of its pools, and the pools. Every
//! byte is charged to the client and to the store before it is taken, and
//! credited after it was given back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::codec::Encoded;
use crate::config::ClientConfig;
use crate::counters::Counters;
use crate::memory::{Class, Content, Freed, Heap, SPAN_COST, Slot};
use crate::pool::Pool;
use crate::store::Shared;
use crate::types::{PoolKind, Refused};

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The pool's quota.
    Pool,
    /// The client's quota.
    Client,
    /// The store's memory limit.
    Store,
    /// The system's memory.
    System,
}

impl Shortage {
    /// What a put that met it is told.
    pub(crate) fn refusal(self) -> Refused {
        match self {
            Self::Pool | Self::Client => Refused::Quota,
            Self::Store | Self::System => Refused::Memory,
        }
    }
}

/// Adds `bytes` to `held` unless that makes it more than `limit`.
pub(crate) fn charge(held: &AtomicU64, limit: u64, bytes: u64) -> bool {
    held.fetch_update(Relaxed, Relaxed, |held| {
        held.checked_add(bytes).filter(|held| *held <= limit)
    })
    .is_ok()
}

/// The account of a client.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: String,
    quota: AtomicU64,
    held: AtomicU64,
    frozen: AtomicBool,
    pub(crate) counters: Counters,
    heap: Heap,
    pools: RwLock<BTreeMap<u32, Arc<Pool>>>,
    /// Counts puts to ephemeral pools: the time by which blocks age.
    clock: AtomicU64,
    /// Frees since a put of a new persistent page was last refused for want
    /// of quota or memory.
    freed_since_refusal: AtomicU64,
}

impl Account {
    pub(crate) fn new(shared: Arc<Shared>, config: ClientConfig) -> Self {
        Self {
            shared,
            name: config.name,
            quota: AtomicU64::new(config.quota),
            held: AtomicU64::new(0),
            frozen: AtomicBool::new(false),
            counters: Counters::default(),
            heap: Heap::new(),
            pools: RwLock::default(),
            clock: AtomicU64::new(0),
            freed_since_refusal: AtomicU64::new(u64::MAX / 2),
        }
    }

    pub(crate) fn pools(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Arc<Pool>>> {
        self.pools.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pools_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u32, Arc<Pool>>> {
        self.pools.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn quota(&self) -> u64 {
        self.quota.load(Relaxed)
    }

    pub(crate) fn set_quota(&self, bytes: u64) {
        self.quota.store(bytes, Relaxed);
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Relaxed)
    }

    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, Relaxed);
    }

    /// Now, for blocks that age.
    pub(crate) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed)
    }

    /// Charges `bytes` to the client and the store.
    pub(crate) fn charge(&self, bytes: u64) -> Result<(), Shortage> {
        if !charge(&self.held, self.quota(), bytes) {
            return Err(Shortage::Client);
        }
        if !charge(&self.shared.held, self.shared.limit, bytes) {
            self.held.fetch_sub(bytes, Relaxed);
            return Err(Shortage::Store);
        }
        Ok(())
    }

    /// Charges `bytes` that are held already.
    pub(crate) fn charge_anyway(&self, bytes: u64) {
        self.held.fetch_add(bytes, Relaxed);
        self.shared.held.fetch_add(bytes, Relaxed);
    }

    /// Credits `bytes` that were charged before.
    pub(crate) fn credit(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
        self.shared.held.fetch_sub(bytes, Relaxed);
    }

    /// Finds room for a page. Takes new memory only within quota and limit.
    pub(crate) fn keep(&self, encoded: Encoded<'_>, replaces: bool) -> Result<Content, Shortage> {
        // A client over its quota (which was lowered) gets no new page kept,
        // not even in memory that it holds already.
        if !replaces && self.held() > self.quota() {
            return Err(Shortage::Client);
        }
        let bytes = match encoded {
            Encoded::Same(word) => return Ok(Content::Same(word)),
            Encoded::Bytes(bytes) => bytes,
        };
        let mut slot = self.allocate(bytes.len())?;
        self.shared.arena.fill(&mut slot, bytes);
        Ok(Content::Slot(slot))
    }

    fn allocate(&self, len: usize) -> Result<Slot, Shortage> {
        let arena = &self.shared.arena;
        let class = Class::fitting(len).ok_or(Shortage::System)?;
        let len = u16::try_from(len).map_err(|_| Shortage::System)?;
        if let Some(slot) = self.heap.allocate(arena, class, len) {
            return Ok(slot);
        }
        let shortage = match self.charge(SPAN_COST) {
            Ok(()) => match self.heap.allocate_fresh(arena, class, len) {
                Some(slot) => return Ok(slot),
                None => {
                    self.credit(SPAN_COST);
                    Shortage::System
                }
            },
            Err(shortage) => shortage,
        };
        self.heap.allocate_larger(arena, class, len).ok_or(shortage)
    }

    /// Gives the memory of a page back.
    pub(crate) fn free(&self, content: Content) {
        self.freed_since_refusal.fetch_add(1, Relaxed);
        if let Content::Slot(slot) = content {
            self.credit_spans(self.heap.free(&self.shared.arena, slot));
        }
    }

    /// Gives unused page memory back to the system; whether there was any.
    pub(crate) fn trim(&self) -> bool {
        let freed = self.heap.trim(&self.shared.arena);
        self.credit_spans(freed);
        freed.spans > 0
    }

    fn credit_spans(&self, freed: Freed) {
        if freed.spans > 0 {
            self.credit(freed.spans * SPAN_COST);
        }
    }

    /// Remembers that a put of a new persistent page was refused.
    pub(crate) fn note_refusal(&self) {
        self.freed_since_refusal.store(0, Relaxed);
    }

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

    /// Makes room for a put to a pool of `kind`, other than in a pool's own
    /// quota; whether it is worth trying again.
    pub(crate) fn make_room(&self, shortage: Shortage, kind: PoolKind) -> bool {
        match shortage {
            Shortage::Pool => false,
            Shortage::Client => self.trim() || self.evict() > 0,
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
