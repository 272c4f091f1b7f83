// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pools: put, get and flush.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::Account;
use crate::config::PoolConfig;
use crate::types::{Found, Get, Lost, ObjectId, PAGE_SIZE, Page, PoolKind, Put, Refused};

type Pages = BTreeMap<(ObjectId, u64), Box<Page>>;

/// A pool of pages. Every operation may run concurrently with every other;
/// concurrent operations on one handle happen in some order. After the pool
/// was destroyed puts are refused, gets miss and flushes remove nothing.
#[derive(Debug)]
pub struct Pool {
    account: Arc<Account>,
    config: PoolConfig,
    /// `None` once the pool is destroyed.
    pages: Mutex<Option<Pages>>,
}

impl Pool {
    pub(crate) fn new(account: Arc<Account>, config: PoolConfig) -> Self {
        Self {
            account,
            config,
            pages: Mutex::new(Some(Pages::new())),
        }
    }

    fn pages(&self) -> MutexGuard<'_, Option<Pages>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn removed(&self, pages: u64) {
        let bytes = pages * PAGE_SIZE as u64;
        self.account.held.fetch_sub(bytes, Relaxed);
        self.account.shared.held.fetch_sub(bytes, Relaxed);
        let mut stats = self.account.stats();
        match self.config.kind {
            PoolKind::Persistent => stats.persistent_pages -= pages,
            PoolKind::Ephemeral => stats.ephemeral_pages -= pages,
        }
    }

    pub(crate) fn destroy(&self) -> u64 {
        let removed = self.pages().take().map_or(0, |pages| pages.len() as u64);
        self.removed(removed);
        removed
    }

    /// What the pool promises about its pages.
    pub fn kind(&self) -> PoolKind {
        self.config.kind
    }

    /// Copies `page` into the store, in place of an older page of that handle.
    pub fn put(&self, object: &ObjectId, index: u64, page: &Page) -> Put {
        self.account.stats().puts += 1;
        let mut guard = self.pages();
        let Some(pages) = guard.as_mut() else {
            return Put {
                result: Err(Refused::PoolGone),
                prior_removed: false,
            };
        };
        if let Some(old) = pages.get_mut(&(*object, index)) {
            **old = *page;
            return Put {
                result: Ok(()),
                prior_removed: true,
            };
        }
        let refused = |why| Put {
            result: Err(why),
            prior_removed: false,
        };
        let size = PAGE_SIZE as u64;
        let held = (pages.len() as u64 + 1) * size;
        let account = &self.account;
        if account.frozen.load(Relaxed) {
            return refused(Refused::Frozen);
        }
        if self.config.quota.is_some_and(|quota| held > quota)
            || account.held.load(Relaxed).saturating_add(size) > account.quota.load(Relaxed)
        {
            return refused(Refused::Quota);
        }
        if account.shared.held.load(Relaxed).saturating_add(size) > account.shared.limit {
            return refused(Refused::Memory);
        }
        pages.insert((*object, index), Box::new(*page));
        account.held.fetch_add(size, Relaxed);
        account.shared.held.fetch_add(size, Relaxed);
        match self.config.kind {
            PoolKind::Persistent => account.stats().persistent_pages += 1,
            PoolKind::Ephemeral => account.stats().ephemeral_pages += 1,
        }
        Put {
            result: Ok(()),
            prior_removed: false,
        }
    }

    /// Copies a page out of the store, straight into `page`, which is not
    /// touched on a miss.
    pub fn get(&self, object: &ObjectId, index: u64, page: &mut Page) -> Get {
        let guard = self.pages();
        let mut stats = self.account.stats();
        stats.gets += 1;
        match guard
            .as_ref()
            .and_then(|pages| pages.get(&(*object, index)))
        {
            Some(found) => {
                *page = **found;
                stats.get_hits += 1;
                Get::Hit
            }
            None => {
                stats.get_misses += 1;
                Get::Miss
            }
        }
    }

    /// A get that also removes the page. For ephemeral pools: a removing get
    /// cannot be replayed.
    pub fn take(&self, object: &ObjectId, index: u64, page: &mut Page) -> Get {
        let got = self.get(object, index, page);
        self.flush(object, index, 1);
        got
    }

    /// Removes the pages `index..index + count` and returns how many were
    /// there. The range ends at 2^64 at the latest. The cost depends on the
    /// pages present, not on `count`.
    pub fn flush(&self, object: &ObjectId, index: u64, count: u64) -> u64 {
        let Some(last) = count.checked_sub(1).map(|more| index.saturating_add(more)) else {
            return 0;
        };
        let mut guard = self.pages();
        let Some(pages) = guard.as_mut() else {
            return 0;
        };
        let keys: Vec<_> = pages
            .range((*object, index)..=(*object, last))
            .map(|(key, _)| *key)
            .collect();
        for key in &keys {
            pages.remove(key);
        }
        drop(guard);
        let removed = keys.len() as u64;
        self.removed(removed);
        self.account.stats().flushed_pages += removed;
        removed
    }

    /// Removes every page of an object and returns how many were there.
    pub fn flush_object(&self, object: &ObjectId) -> u64 {
        // A count of 2^64 does not fit: the last index goes on its own.
        self.flush(object, 0, u64::MAX) + self.flush(object, u64::MAX, 1)
    }

    /// Puts the pages `index..index + count`. `source` is asked for the data
    /// of each page by its place in the run and answers `false` if it cannot
    /// be read (the put is then [`Refused::Unreadable`], and an older page of
    /// that handle is removed); `done` is told each outcome, in order. Pages
    /// whose index would be 2^64 or more are [`Refused::Unreadable`].
    pub fn put_run(
        &self,
        object: &ObjectId,
        index: u64,
        count: u32,
        source: &mut dyn FnMut(u32, &mut Page) -> bool,
        done: &mut dyn FnMut(u32, Put),
    ) {
        let mut page = [0; PAGE_SIZE];
        for nth in 0..count {
            let put = match index.checked_add(u64::from(nth)) {
                Some(index) if source(nth, &mut page) => self.put(object, index, &page),
                Some(index) => Put {
                    result: Err(Refused::Unreadable),
                    prior_removed: self.flush(object, index, 1) > 0,
                },
                None => Put {
                    result: Err(Refused::Unreadable),
                    prior_removed: false,
                },
            };
            done(nth, put);
        }
    }

    /// Gets the pages `index..index + count` and hands each to `sink` by its
    /// place in the run, in order: the page, `None` on a miss, or [`Lost`].
    /// Pages whose index would be 2^64 or more are misses.
    pub fn get_run(
        &self,
        object: &ObjectId,
        index: u64,
        count: u32,
        sink: &mut dyn FnMut(u32, Found<'_>),
    ) {
        let mut page = [0; PAGE_SIZE];
        for nth in 0..count {
            let got = index
                .checked_add(u64::from(nth))
                .map_or(Get::Miss, |index| self.get(object, index, &mut page));
            match got {
                Get::Hit => sink(nth, Ok(Some(&page))),
                Get::Miss => sink(nth, Ok(None)),
                Get::Lost => sink(nth, Err(Lost)),
            }
        }
    }
}
