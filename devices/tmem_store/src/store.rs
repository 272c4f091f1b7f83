// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The store itself.
//!
//! Lock order, first taken first; nothing is taken in the other direction,
//! and no lock is held while a caller's function runs:
//!
//! 1. the list of clients (`Reclaimer::members`)
//! 2. a client's pools (`Member::pools`)
//! 3. one shard of one pool (`Pages::shards`)
//! 4. one head of a client's log, then the list of its segments, then the
//!    arena's free ones; or the number of a client's deferred pages
//!    (`Budget::deferred`); or the background thread's wake-up
//!
//! Before all of these come the locks of who moves entries (`Member::cleaner`,
//! `Recompressor::cleaner`), and then the store's reserve for that.
//!
//! A put takes no lock while it compresses and while it makes room: eviction
//! may have to take shards of other pools and clients. Those of other clients
//! it only tries to take ([`crate::reclaim`]). Deferred pages are
//! compressed without a lock in the background ([`crate::compressor`]), and
//! under their shard's lock by a put that needs their memory at once.

use crate::base::{Base, Layer};
use crate::budget::{Budget, StoreBudget};
use crate::client::Client;
use crate::compressor::Compressor;
use crate::config::{ClientConfig, Recompression, StoreConfig};
use crate::demoter::Demoter;
use crate::reclaim::{Member, Reclaimer};
use crate::stats::{SharedStats, StoreStats};
use crate::sync::Arc;
use crate::sync::atomic::Ordering::Relaxed;
use crate::tier::{Arena, Left, PageMemory};
use crate::types::{Error, Identity, PAGE_SIZE};

/// A store of pages for many clients. Cloning gives another handle to it.
#[derive(Clone, Debug)]
pub struct Store {
    reclaimer: Arc<Reclaimer>,
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
        let arena = Arena::new(config.memory_limit, config.spill.clone())?;
        Ok(Self::with(arena, &config))
    }

    /// A store over the file of an earlier one, and what is left there.
    pub(crate) fn over(file: PageMemory, config: StoreConfig) -> Result<(Self, Vec<Left>), Error> {
        Self::checked(&config)?;
        let (arena, left) = Arena::recover(file, config.memory_limit, config.spill.clone())?;
        Ok((Self::with(arena, &config), left))
    }

    /// Whether clients of an earlier store may not be there yet.
    pub(crate) fn awaits_clients(&self, awaits: bool) {
        self.reclaimer.awaits_clients.store(awaits, Relaxed);
    }

    pub(crate) fn arena(&self) -> &Arena {
        &self.reclaimer.budget.arena
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
        let most_deferred = config.deferred_limit.min(config.memory_limit) / PAGE_SIZE as u64;
        let budget = StoreBudget::new(arena, config.memory_limit, most_deferred);
        Self {
            reclaimer: Arc::new(Reclaimer::new(Arc::new(budget))),
        }
    }

    /// Adds a client without pools.
    ///
    /// # Errors
    /// When the store already serves as many clients as it can, or one with this
    /// identity.
    pub fn add_client(&self, config: ClientConfig) -> Result<Client, Error> {
        self.add_client_over(config, None)
    }

    /// Whether a client has this identity, or a base that clients are over.
    pub fn has_identity(&self, identity: Identity) -> bool {
        let members = self.reclaimer.members();
        members
            .iter()
            .any(|other| other.budget.identity == identity)
    }

    /// As [`Store::add_client`]; pools that an earlier store has made are over those of `base`.
    pub(crate) fn add_client_over(
        &self,
        config: ClientConfig,
        base: Option<Arc<Base>>,
    ) -> Result<Client, Error> {
        let identity = match config.identity {
            Some(identity) => identity,
            None => Identity::random().map_err(|source| Error::Random { source })?,
        };
        let reclaimer = &self.reclaimer;
        let max_pools = config.max_pools;
        let budget = Budget::new(reclaimer.budget.clone(), identity, config);
        let member = Arc::new(Member::new(reclaimer.clone(), Arc::new(budget)));
        reclaimer.add(&member)?;
        Ok(Client::new(Layer { member, base }, max_pools))
    }

    /// Holds at most `bytes` for now, and never more than the limit that the store was made
    /// with. Of what is held already, ephemeral pages are given back: some at once, others
    /// in the background ([`Store::start_compressor`]). The rest stays.
    ///
    /// Returns whether ephemeral pages are left beyond the limit: they go while the caller waits,
    /// or by another call.
    pub fn limit_for_now(&self, bytes: u64) -> bool {
        self.reclaimer.limit_for_now(bytes)
    }

    /// Has page memory stay in memory from the first access on (mlock2(2), `MLOCK_ONFAULT`).
    /// [`Store::lockable_bytes`] count for the process's limit then. The index stays as it is.
    ///
    /// # Errors
    /// When that is more than the process may have locked.
    pub fn lock_memory(&self) -> std::io::Result<()> {
        self.arena().lock()
    }

    /// Takes page memory out of this process's page tables, while the store may be in use. A
    /// process that is about to end does so before it stops to serve: the system unmaps what
    /// is left when it ends, and takes 40 ms for a GiB while nobody is served. The pages
    /// stay where they are, and are mapped anew when they are used.
    ///
    /// # Errors
    /// When the system refuses, as it does after [`Store::lock_memory`].
    pub fn unmap(&self) -> std::io::Result<()> {
        self.arena().unmap()
    }

    /// Bytes that [`Store::lock_memory`] locks.
    pub fn lockable_bytes(&self) -> u64 {
        self.arena().reserved() as u64
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> u64 {
        self.reclaimer.budget.held()
    }

    /// Compresses up to `pages` deferred pages, without
    /// holding up other operations, and returns how many it looked at: 0 if
    /// none is deferred or others are at it; memory that was kept for more of them is then given
    /// back. May be called from any thread.
    pub fn compress_some(&self, pages: u64) -> u64 {
        let looked = self.reclaimer.compress_some(pages);
        if looked == 0 {
            self.reclaimer.drop_spare();
        }
        looked
    }

    /// Moves the live pages out of a segment of a client of whose memory much is dead; whether
    /// that gave memory back, so that there may be more to do. May be called from any thread;
    /// [`Store::start_compressor`] does it in the background.
    pub fn clean_some(&self) -> bool {
        self.reclaimer.clean_some()
    }

    /// Moves the oldest pages of a client to the spill area while little memory is left; whether there
    /// may be more to do. May be called from any thread; [`Store::start_compressor`] does it
    /// in the background.
    pub fn demote_some(&self) -> bool {
        self.reclaimer.demote_some()
    }

    /// Removes some pages that clones had in common and that all of them have replaced or removed; whether
    /// there may be more. May be called from any thread; [`Store::start_compressor`] does it in the
    /// background.
    pub fn sweep_some(&self) -> bool {
        self.reclaimer.sweep_some()
    }

    /// Recompresses the pages of a segment that are cold, and returns how many it looked
    /// at. May be called from any thread; [`Store::start_compressor`] does it in the
    /// background.
    pub fn recompress_some(&self) -> u64 {
        self.reclaimer.recompress_some()
    }

    /// Changes how cold pages are recompressed.
    pub fn set_recompression(&self, recompression: Recompression) {
        *self.reclaimer.recompressor.setting() = recompression;
        self.reclaimer.budget.wake_up.wake();
    }

    /// How cold pages are recompressed.
    pub fn recompression(&self) -> Recompression {
        *self.reclaimer.recompressor.setting()
    }

    /// Starts a thread that compresses deferred pages until its handle is
    /// dropped. Without one, they stay so until their memory is needed.
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
        Compressor::start(self.reclaimer.clone(), prepare)
    }

    /// Starts a thread that moves pages to the spill area while little memory is left, until its handle is
    /// dropped; it calls `prepare` before it does anything else. Nobody else writes to the area then: a put
    /// without memory waits for the thread, for seconds at most, and is refused at once while the area
    /// answers nothing. Without one, who puts does it and the
    /// compressor, and nobody where others have to answer ([`Area::is_remote`](crate::Area::is_remote)).
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start_demoter_with(
        &self,
        prepare: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Demoter> {
        Demoter::start(self.reclaimer.clone(), prepare)
    }

    /// What the place is called where persistent pages go that memory has no room for, if there is one,
    /// and whether others have to answer for it ([`Area::is_remote`](crate::Area::is_remote)).
    pub fn spill_area(&self) -> Option<(String, bool)> {
        let spill = self.arena().spill.as_ref()?;
        Some((spill.name(), spill.is_remote()))
    }

    #[cfg(test)]
    pub(crate) fn demote_now(&self) -> bool {
        self.reclaimer.demote_now()
    }

    /// What of that clients share because they were cloned; `None` if there is no base.
    pub fn shared_stats(&self) -> Option<SharedStats> {
        self.reclaimer.shared_stats()
    }

    /// What the store holds now.
    pub fn stats(&self) -> StoreStats {
        self.reclaimer.stats()
    }
}
