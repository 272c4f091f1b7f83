// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The store itself.
//!
//! Lock order, first taken first; nothing is taken in the other direction,
//! and no lock is held while a caller's function runs:
//!
//! 1. the list of clients (`Shared::accounts`)
//! 2. a client's pools (`Account::pools`)
//! 3. one shard of one pool (`Pool::shards`)
//! 4. one head of a client's log, then the list of its segments, then the
//!    arena's free ones; or the number of a client's deferred pages
//!    (`Account::deferred`); or the compressor's wake-up
//!
//! A client's cleaner, and the store's reserve for moving pages, are taken
//! before all of these.
//!
//! Before all of these come the locks of who moves entries (`Account::cleaner`,
//! `Shared::recompression_cleaner`), for which nobody waits.
//!
//! A put takes no lock while it compresses and while it makes room: eviction
//! may have to take shards of other pools and clients. Those of other clients
//! it only tries to take ([`crate::reclaim`]). Waiting pages are
//! compressed without a lock in the background ([`crate::compressor`]), and
//! under their shard's lock by a put that needs their memory at once.

use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::account::Account;
use crate::client::Client;
use crate::compressor::{Compressor, WakeUp};
use crate::config::{ClientConfig, Recompression, StoreConfig};
use crate::counters::Counter;
use crate::ledger::Ledger;
use crate::reclaim::{Cleaner, Effort, LOAN};
use crate::stats::StoreStats;
use crate::tier::{Arena, Left, PageMemory, SEGMENT};
use crate::types::{Error, Identity, PAGE_SIZE};

/// State shared by the store's handles, clients and pools.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Most bytes that may ever be held, and most for now.
    pub(crate) most: u64,
    limit: AtomicU64,
    pub(crate) ledger: Ledger,
    /// Pages that wait to be compressed, and the most that may.
    pub(crate) deferred_pages: AtomicU64,
    pub(crate) most_deferred: u64,
    pub(crate) wake_up: WakeUp,
    pub(crate) arena: Arena,
    pub(crate) evicted_pages: Counter,
    /// Threads that do in the background what operations leave undone.
    pub(crate) helpers: AtomicUsize,
    /// For who moves entries when there is no other room.
    pub(crate) reserve: Mutex<()>,
    /// A quota was changed.
    pub(crate) shrinks: AtomicBool,
    /// Somebody found too little room.
    pub(crate) wants_room: AtomicBool,
    recompression: Mutex<Recompression>,
    /// For who recompresses pages: also for the memory that this needs for a while.
    pub(crate) recompression_cleaner: Mutex<Cleaner>,
    accounts: RwLock<Vec<Arc<Account>>>,
}

impl Shared {
    pub(crate) fn accounts(&self) -> RwLockReadGuard<'_, Vec<Arc<Account>>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn accounts_mut(&self) -> RwLockWriteGuard<'_, Vec<Arc<Account>>> {
        self.accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Most bytes that may be held for now, but for moving entries: without some room
    /// left, none could be had by cleaning, nor by recompressing pages.
    pub(crate) fn limit(&self) -> u64 {
        let most = self.most.saturating_sub(SEGMENT as u64 + LOAN);
        self.limit.load(Relaxed).min(most)
    }

    pub(crate) fn recompression_mut(&self) -> MutexGuard<'_, Recompression> {
        let setting = self.recompression.lock();
        setting.unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a client whose pools are gone.
    pub(crate) fn remove(&self, account: &Arc<Account>) {
        self.accounts_mut()
            .retain(|other| !Arc::ptr_eq(other, account));
    }

    /// Charges `bytes` that are to be held, if there is room.
    pub(crate) fn charge(&self, bytes: u64) -> bool {
        self.ledger.charge(self.limit(), bytes)
    }

    /// Whether any client has pages that wait to be compressed.
    pub(crate) fn has_deferred(&self) -> bool {
        self.deferred_pages.load(Relaxed) > 0
    }

    /// Whether any client has ephemeral pages.
    pub(crate) fn can_evict(&self) -> bool {
        self.accounts().iter().any(|account| account.can_evict())
    }
}

/// A store of pages for many clients. Cloning gives another handle to it.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

impl Store {
    /// Least `memory_limit` in bytes.
    pub const LEAST_MEMORY: u64 = 1 << 20;

    /// Makes an empty store.
    ///
    /// # Errors
    /// When the limit is out of range or the system gives no page memory.
    pub fn new(config: StoreConfig) -> Result<Self, Error> {
        Self::checked(&config)?;
        let arena = Arena::new(config.memory_limit)?;
        Ok(Self::with(arena, &config))
    }

    /// A store over the file of an earlier one, and what is left there.
    pub(crate) fn over(file: PageMemory, config: StoreConfig) -> Result<(Self, Vec<Left>), Error> {
        Self::checked(&config)?;
        let (arena, left) = Arena::recover(file, config.memory_limit)?;
        Ok((Self::with(arena, &config), left))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn checked(config: &StoreConfig) -> Result<(), Error> {
        let limit = config.memory_limit;
        if limit < Self::LEAST_MEMORY {
            return Err(Error::LimitTooSmall {
                limit,
                least: Self::LEAST_MEMORY,
            });
        }
        Ok(())
    }

    fn with(arena: Arena, config: &StoreConfig) -> Self {
        let limit = config.memory_limit;
        Self {
            shared: Arc::new(Shared {
                most: limit,
                limit: AtomicU64::new(limit),
                ledger: Ledger::default(),
                deferred_pages: AtomicU64::new(0),
                most_deferred: config.deferred_limit.min(limit) / PAGE_SIZE as u64,
                wake_up: WakeUp::default(),
                arena,
                evicted_pages: Counter::default(),
                helpers: AtomicUsize::new(0),
                reserve: Mutex::new(()),
                shrinks: AtomicBool::new(false),
                wants_room: AtomicBool::new(false),
                recompression: Mutex::default(),
                recompression_cleaner: Mutex::default(),
                accounts: RwLock::default(),
            }),
        }
    }

    /// Adds a client without pools.
    ///
    /// # Errors
    /// When the store already serves as many clients as it can, or one with this
    /// identity.
    pub fn add_client(&self, config: ClientConfig) -> Result<Client, Error> {
        /// Bounds the search for a client that can give pages up.
        const MOST: usize = 1 << 16;
        let identity = match config.identity {
            Some(identity) => identity,
            None => Identity::random().map_err(|source| Error::Random { source })?,
        };
        let mut accounts = self.shared.accounts_mut();
        if accounts.len() >= MOST {
            return Err(Error::TooManyClients { clients: MOST });
        }
        if accounts.iter().any(|other| other.identity == identity) {
            return Err(Error::IdentityTaken);
        }
        let max_pools = config.max_pools;
        let account = Arc::new(Account::new(self.shared.clone(), identity, config));
        accounts.push(account.clone());
        Ok(Client::new(account, max_pools))
    }

    /// Holds at most `bytes` for now, and never more than the limit that the store was made
    /// with. Of what is held already, ephemeral pages are given back: some at once, others
    /// in the background ([`Store::start_compressor`]). The rest stays.
    pub fn limit_for_now(&self, bytes: u64) {
        let shared = &self.shared;
        shared.limit.store(bytes.min(shared.most), Relaxed);
        if !shared.has_room() {
            shared.want_room();
            shared.evict_some(&mut Effort::run());
        }
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> u64 {
        self.shared.ledger.held()
    }

    /// Compresses up to `pages` pages that wait to be compressed, without
    /// holding up other operations, and returns how many it looked at: 0 if
    /// none waits or others are at it. May be called from any thread.
    pub fn compress_some(&self, pages: u64) -> u64 {
        self.shared.compress_some(pages)
    }

    /// Recompresses the pages of a segment that are cold, and returns how many it looked
    /// at. May be called from any thread; [`Store::start_compressor`] does it in the
    /// background.
    pub fn recompress_some(&self) -> u64 {
        self.shared.recompress_some()
    }

    /// Changes how cold pages are recompressed.
    pub fn set_recompression(&self, recompression: Recompression) {
        *self.shared.recompression_mut() = recompression;
        self.shared.wake();
    }

    /// How cold pages are recompressed.
    pub fn recompression(&self) -> Recompression {
        *self.shared.recompression_mut()
    }

    /// Starts a thread that compresses deferred pages until its handle is
    /// dropped. Without one, pages wait until their memory is needed.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start_compressor(&self) -> std::io::Result<Compressor> {
        self.start_compressor_with(|| ())
    }

    /// As [`Store::start_compressor`]; the thread calls `prepare` before it
    /// does anything else, for example to confine itself.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start_compressor_with(
        &self,
        prepare: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Compressor> {
        Compressor::start(self.shared.clone(), prepare)
    }

    /// What the store holds now.
    pub fn stats(&self) -> StoreStats {
        let shared = &self.shared;
        let accounts = shared.accounts();
        let mut stats = StoreStats {
            memory_limit_bytes: shared.most,
            held_bytes: shared.ledger.held(),
            mapped_bytes: shared.arena.backed_bytes().unwrap_or(0),
            evicted_pages: shared.evicted_pages.get(),
            clients: accounts.len() as u64,
            ..StoreStats::default()
        };
        for account in accounts.iter() {
            account.counters.add_to(&mut stats);
        }
        stats
    }
}
