// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Who may hold how much: what is held for a client and for all of them, in bytes, and
//! its limits. A budget knows no pools; who makes room is above it.
//!
//! What a client holds is counted in bytes that the host really spends on it:
//! the memory behind its segments, the index of its pools, and the pools. Every
//! byte is charged to the client and to the store before it is taken, and
//! credited after it was given back.

mod deferred;
mod demotion;
mod ledger;
mod memory;
mod part;
mod shared;
mod store;
mod wake_up;

pub(crate) use demotion::{Demotion, Waited};
pub(crate) use ledger::charge;
use store::TIGHT;
pub(crate) use store::{LOAN, StoreBudget};
pub(crate) use wake_up::WakeUp;

use crate::config::{ClientConfig, Compression};
use crate::stats::Counters;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::sync::{Arc, Mutex};
use crate::tier::{Arena, Log, PIECE, SEGMENT};
use crate::types::{Identity, Refused};
use ledger::Ledger;
use part::Part;
use shared::Shared;

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The pool's quota.
    Pool,
    /// That of all pools of its kind.
    Kind,
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
            Self::Pool | Self::Kind | Self::Client => Refused::Quota,
            Self::Store | Self::System => Refused::Memory,
        }
    }
}

/// Which memory a page may have. Without an older page in its place it gets none, not even
/// such as is held already, while more is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// A new page: the whole quota.
    New,
    /// A new page of those that are overwritten in place: it leaves a part of the quota.
    Leaving,
    /// There is an older page in its place: the whole quota.
    Replacing,
}

/// The part of a quota that new pages leave for pages that are overwritten in place. Old and
/// new page are held together then, and of what is dead the cleaner leaves 1/64.
fn reserve(quota: u64) -> u64 {
    (quota / 32 + 2 * SEGMENT as u64).min(quota / 2)
}

/// The budget of a client, and its page memory.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) store: Arc<StoreBudget>,
    pub(crate) name: String,
    pub(crate) identity: Identity,
    quota: AtomicU64,
    /// What the client's ephemeral pools may hold of that, and hold.
    pub(crate) ephemeral: Part,
    weight: AtomicU32,
    ledger: Ledger,
    frozen: AtomicBool,
    /// The place of the setting in [`Compression::ALL`].
    compression: AtomicUsize,
    pub(crate) counters: Counters,
    pub(crate) log: Log,
    /// Counts puts to ephemeral pools: the time by which blocks age.
    clock: AtomicU64,
    /// Frees since a put of a new persistent page was last refused for want
    /// of quota or memory.
    freed_since_refusal: AtomicU64,
    /// Deferred pages.
    deferred: Mutex<u64>,
    /// What it has of bases.
    pub(crate) shared: Shared,
}

impl Budget {
    pub(crate) fn new(store: Arc<StoreBudget>, identity: Identity, config: ClientConfig) -> Self {
        Self {
            store,
            name: config.name,
            identity,
            quota: AtomicU64::new(config.quota),
            ephemeral: Part::default(),
            weight: AtomicU32::new(config.weight.max(1)),
            ledger: Ledger::default(),
            frozen: AtomicBool::new(false),
            compression: AtomicUsize::new(0),
            counters: Counters::default(),
            log: Log::new(identity),
            clock: AtomicU64::new(0),
            freed_since_refusal: AtomicU64::new(u64::MAX / 2),
            deferred: Mutex::new(0),
            shared: Shared::default(),
        }
    }

    /// The memory of all clients' pages.
    pub(crate) fn arena(&self) -> &Arena {
        &self.store.arena
    }

    pub(crate) fn quota(&self) -> u64 {
        self.quota.load(Relaxed)
    }

    pub(crate) fn set_quota(&self, bytes: u64) {
        self.quota.store(bytes, Relaxed);
    }

    /// At least 1.
    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight.max(1), Relaxed);
    }

    /// Bytes of memory held for each unit of weight, in 2^-32: by this clients are compared.
    pub(crate) fn load(&self) -> u128 {
        (u128::from(self.memory()) << 32) / u128::from(self.weight().max(1))
    }

    /// Bytes of memory and of the spill area, those of bases included.
    pub(crate) fn held(&self) -> u64 {
        self.memory() + self.log.spilled_bytes() + self.shared.bytes()
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> u64 {
        self.ledger.held()
    }

    /// What of the quota is left for memory.
    pub(super) fn memory_quota(&self) -> u64 {
        self.left_for_memory(self.quota())
    }

    /// What is left for memory of a limit for all that is held.
    fn left_for_memory(&self, limit: u64) -> u64 {
        limit.saturating_sub(self.log.spilled_bytes() + self.shared.bytes())
    }

    /// Bytes of memory held that cannot be appended to.
    pub(crate) fn spent(&self) -> u64 {
        self.memory().saturating_sub(self.log.room())
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Relaxed)
    }

    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, Relaxed);
    }

    pub(crate) fn compression(&self) -> Compression {
        let [first, ..] = Compression::ALL;
        let nth = self.compression.load(Relaxed);
        Compression::ALL.get(nth).copied().unwrap_or(first)
    }

    pub(crate) fn set_compression(&self, compression: Compression) {
        let nth = Compression::ALL.iter().position(|it| *it == compression);
        self.compression.store(nth.unwrap_or(0), Relaxed);
    }

    /// Now, for blocks that age.
    pub(crate) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed)
    }

    /// The first of so many ticks.
    pub(crate) fn ticks(&self, count: u64) -> u64 {
        self.clock.fetch_add(count, Relaxed)
    }

    /// Charges `bytes` to the client and the store.
    pub(crate) fn charge(&self, bytes: u64) -> Result<(), Shortage> {
        self.charge_for(Room::Replacing, bytes)
    }

    /// Most that is held when a page is kept in such memory.
    pub(super) fn limit_for(&self, room: Room) -> u64 {
        let quota = self.quota();
        match room {
            Room::New | Room::Replacing => quota,
            Room::Leaving => quota - reserve(quota),
        }
    }

    /// Charges `bytes` for a page that may have such memory.
    fn charge_for(&self, room: Room, bytes: u64) -> Result<(), Shortage> {
        let limit = self.left_for_memory(self.limit_for(room));
        if !self.ledger.charge(limit, bytes) {
            return Err(Shortage::Client);
        }
        if !self.store.charge(bytes) {
            self.ledger.credit(bytes);
            return Err(Shortage::Store);
        }
        Ok(())
    }

    /// Charges `bytes` for entries that are moved, whatever the client's quota:
    /// what they are moved from comes back. Whether the store has room.
    pub(crate) fn charge_for_moving(&self, bytes: u64) -> bool {
        let charged = self.store.charge(bytes);
        if charged {
            self.ledger.charge_anyway(bytes);
        }
        charged
    }

    /// Charges `bytes` that are held already.
    pub(crate) fn charge_anyway(&self, bytes: u64) {
        self.ledger.charge_anyway(bytes);
        self.store.ledger.charge_anyway(bytes);
    }

    /// Credits `bytes` that were charged before.
    pub(crate) fn credit(&self, bytes: u64) {
        self.ledger.credit(bytes);
        self.store.ledger.credit(bytes);
    }

    /// Bytes committed by now, by the client and in the store.
    pub(crate) fn committed(&self) -> [u64; 2] {
        [self.ledger.committed(), self.store.ledger.committed()]
    }

    /// Whether memory has come back since so much was committed.
    pub(crate) fn has_come_back(&self, since: [u64; 2]) -> bool {
        let now = self.committed();
        now.iter().zip(since).any(|(now, before)| *now < before)
    }

    /// Whether a page that may have such memory may be kept in it, be it held already.
    pub(crate) fn may_keep(&self, room: Room) -> bool {
        room == Room::Replacing || self.held() <= self.limit_for(room)
    }

    /// Whether more is held, or set aside for deferred pages, than the quota.
    pub(crate) fn is_beyond_quota(&self) -> bool {
        let quota = self.quota();
        let is_set_aside = || self.ledger.is_beyond(self.memory_quota());
        self.held() > quota || (is_set_aside() && self.has_deferred())
    }

    /// Whether the client has ephemeral pages.
    pub(crate) fn can_evict(&self) -> bool {
        self.counters.ephemeral_pages.get() > 0
    }

    /// Whether the quota leaves room for a piece of page memory.
    pub(crate) fn has_room(&self) -> bool {
        self.held().saturating_add(PIECE as u64) <= self.quota()
    }

    /// Whether so much memory holds nothing that it is worth being cleaned in the
    /// background.
    pub(crate) fn is_sparse(&self) -> bool {
        let dead = self.log.dead_bytes();
        dead > (self.log.backed_bytes() / 24).max(4 * PIECE as u64)
    }

    /// Whether so little memory is left that what was freed is better filled than left to
    /// be cleaned.
    pub(super) fn is_tight(&self) -> bool {
        let quota = self.memory_quota();
        self.store.is_tight() || self.ledger.is_beyond(quota - quota / TIGHT)
    }

    /// Whether a put of a new persistent page was refused not long ago, and it is not worth trying
    /// again: little was freed since, or nothing that was freed is to be had.
    pub(crate) fn is_hopeless(&self) -> bool {
        /// Freed pages after which a put is worth trying again.
        const WORTHWHILE: u64 = 16;
        self.log.dead_bytes() < SEGMENT as u64
            || self.held() > self.quota()
            || self.freed_since_refusal.load(Relaxed) < WORTHWHILE
    }

    /// Remembers that a put of a new persistent page was refused.
    pub(crate) fn note_refusal(&self) {
        self.freed_since_refusal.store(0, Relaxed);
    }
}
