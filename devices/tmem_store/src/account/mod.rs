// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a client and its pools share: memory, quotas, counters.
//!
//! What a client holds is counted in bytes that the host really spends on it:
//! the memory behind its segments, the index of its pools, and the pools. Every
//! byte is charged to the client and to the store before it is taken, and
//! credited after it was given back.

mod deferred;
mod evict;

pub(crate) use deferred::look;

use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::BTreeMap;

use crate::config::{ClientConfig, Compression};
use crate::counters::Counters;
use crate::ledger::Ledger;
use crate::pool::Pool;
use crate::reclaim::Cleaner;
use crate::store::Shared;
use crate::tier::{
    Content, Entry, EntryRef, Log, Owner, Payload, Pin, PoolTag, Short, Temperature,
};
use crate::types::{Identity, PoolKind, Refused};

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

/// The account of a client.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: String,
    pub(crate) identity: Identity,
    /// Pools that were made.
    made: AtomicU64,
    quota: AtomicU64,
    weight: AtomicU32,
    ledger: Ledger,
    frozen: AtomicBool,
    /// The place of the setting in [`Compression::ALL`].
    compression: AtomicUsize,
    pub(crate) counters: Counters,
    pub(crate) log: Log,
    pools: RwLock<BTreeMap<u32, Arc<Pool>>>,
    /// Counts puts to ephemeral pools: the time by which blocks age.
    clock: AtomicU64,
    /// Frees since a put of a new persistent page was last refused for want
    /// of quota or memory.
    freed_since_refusal: AtomicU64,
    /// Pages that wait to be compressed.
    deferred: Mutex<u64>,
    pub(crate) cleaner: Mutex<Cleaner>,
    /// Changes when it was last seen to have changed, and when that was, by the arena's
    /// clock in milliseconds.
    pub(crate) seen: Mutex<(u64, u64)>,
    /// The quota was changed, and what is held was not yet brought within it.
    shrinks: AtomicBool,
}

impl Account {
    pub(crate) fn new(shared: Arc<Shared>, identity: Identity, config: ClientConfig) -> Self {
        Self {
            shared,
            name: config.name,
            identity,
            made: AtomicU64::new(0),
            quota: AtomicU64::new(config.quota),
            weight: AtomicU32::new(config.weight.max(1)),
            ledger: Ledger::default(),
            frozen: AtomicBool::new(false),
            compression: AtomicUsize::new(0),
            counters: Counters::default(),
            log: Log::new(identity),
            pools: RwLock::default(),
            clock: AtomicU64::new(0),
            freed_since_refusal: AtomicU64::new(u64::MAX / 2),
            deferred: Mutex::new(0),
            cleaner: Mutex::default(),
            seen: Mutex::default(),
            shrinks: AtomicBool::new(false),
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

    fn set_quota(&self, bytes: u64) {
        self.quota.store(bytes, Relaxed);
    }

    /// At least 1.
    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight.max(1), Relaxed);
    }

    /// Bytes held for each unit of weight, in 2^-32: by this clients are compared.
    pub(crate) fn load(&self) -> u128 {
        (u128::from(self.held()) << 32) / u128::from(self.weight().max(1))
    }

    pub(crate) fn held(&self) -> u64 {
        self.ledger.held()
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Relaxed)
    }

    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, Relaxed);
    }

    /// The tag of a pool that is made now.
    pub(crate) fn tag(&self, id: u32, kind: PoolKind) -> PoolTag {
        PoolTag::new(id, kind, self.made.fetch_add(1, Relaxed))
    }

    /// Pools that are made from now on come after one with this tag.
    pub(crate) fn made_after(&self, tag: PoolTag) {
        self.made.fetch_max(tag.made() + 1, Relaxed);
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

    /// Charges `bytes` to the client and the store.
    pub(crate) fn charge(&self, bytes: u64) -> Result<(), Shortage> {
        if !self.ledger.charge(self.quota(), bytes) {
            return Err(Shortage::Client);
        }
        if !self.shared.charge(bytes) {
            self.ledger.credit(bytes);
            return Err(Shortage::Store);
        }
        Ok(())
    }

    /// Charges `bytes` for entries that are moved, whatever the client's quota:
    /// what they are moved from comes back. Whether the store has room.
    pub(crate) fn charge_for_moving(&self, bytes: u64) -> bool {
        let charged = self.shared.charge(bytes);
        if charged {
            self.ledger.charge_anyway(bytes);
        }
        charged
    }

    /// Charges `bytes` that are held already.
    pub(crate) fn charge_anyway(&self, bytes: u64) {
        self.ledger.charge_anyway(bytes);
        self.shared.ledger.charge_anyway(bytes);
    }

    /// Credits `bytes` that were charged before.
    pub(crate) fn credit(&self, bytes: u64) {
        self.ledger.credit(bytes);
        self.shared.ledger.credit(bytes);
    }

    /// Finds room for a page. Takes new memory only within quota and limit.
    pub(crate) fn keep(
        &self,
        owner: &Owner<'_>,
        payload: Payload<'_>,
        replaces: bool,
    ) -> Result<Content, Shortage> {
        // A client over its quota (which was lowered) gets no new page kept,
        // not even in memory that it holds already.
        if !replaces && self.held() > self.quota() {
            return Err(Shortage::Client);
        }
        if let Some(shortage) = self.is_overdrawn() {
            return Err(shortage);
        }
        let charge = |bytes| self.charge(bytes);
        let warm = self.append(Temperature::Warm, owner, payload, charge);
        warm.or_else(|shortage| {
            // Room that is there is better than the right place.
            let none = |_| Err(shortage);
            self.append(Temperature::Cold, owner, payload, none)
        })
        .map(Content::Entry)
    }

    /// Appends an entry to the client's log; `charge` is asked for the memory that
    /// it takes.
    pub(crate) fn append(
        &self,
        temperature: Temperature,
        owner: &Owner<'_>,
        payload: Payload<'_>,
        mut charge: impl FnMut(u64) -> Result<(), Shortage>,
    ) -> Result<Entry, Shortage> {
        let arena = &self.shared.arena;
        let mut grant = 0;
        let entry = loop {
            match self
                .log
                .append(arena, temperature, owner, payload, &mut grant)
            {
                Ok(entry) => break Ok(entry),
                Err(Short::System) => break Err(Shortage::System),
                Err(Short::Memory(needed)) => {
                    let more = needed.saturating_sub(grant);
                    if let Err(shortage) = charge(more) {
                        break Err(shortage);
                    }
                    grant += more;
                }
            }
        };
        // Somebody else may have taken memory for this one, too.
        self.credit_some(grant);
        entry
    }

    /// Makes an entry what is kept of its page, also for who makes the index anew.
    /// To be called with the lock of its shard held, before what it replaces is
    /// buried.
    pub(crate) fn publish(&self, entry: EntryRef<'_>) {
        self.shared.arena.publish(entry);
    }

    /// Makes sure that an entry is not found again by who makes the index anew. To be
    /// called before the lock of its shard is let go of: others may keep a newer page
    /// then.
    pub(crate) fn bury(&self, entry: EntryRef<'_>) {
        self.shared.arena.bury(entry);
    }

    /// Gives the memory of a page back.
    pub(crate) fn free(&self, content: Content) {
        self.freed_since_refusal.fetch_add(1, Relaxed);
        let is_deferred = matches!(content, Content::Deferred(_));
        self.free_entry(content.into_entry());
        if is_deferred {
            self.end_deferred();
        }
    }

    /// Gives the memory of an entry back.
    pub(crate) fn free_entry(&self, entry: Entry) {
        self.credit_some(self.log.free(&self.shared.arena, entry));
        if self.is_sparse() {
            self.shared.wake();
        }
    }

    /// The payload behind a pin; `None` if its codec is not known.
    pub(crate) fn pinned<'a>(&'a self, pin: &'a Pin) -> Option<Payload<'a>> {
        // Others may do anything by now; the scheduler has no other place to see that.
        #[cfg(shuttle)]
        crate::sync::thread::yield_now();
        self.shared.arena.pinned(pin)
    }

    /// Ends a pin.
    pub(crate) fn unpin(&self, pin: Pin) {
        self.credit_some(self.log.unpin(&self.shared.arena, pin));
    }

    /// Gives unused page memory back to the system; whether there was any.
    pub(crate) fn trim(&self) -> bool {
        let bytes = self.log.retire(&self.shared.arena);
        self.credit_some(bytes);
        bytes > 0
    }

    /// Credits what came back, if anything did.
    pub(crate) fn credit_some(&self, bytes: u64) {
        if bytes > 0 {
            self.credit(bytes);
        }
    }

    /// Remembers that a put of a new persistent page was refused.
    pub(crate) fn note_refusal(&self) {
        self.freed_since_refusal.store(0, Relaxed);
    }
}
