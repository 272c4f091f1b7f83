// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a client has of bases ([`crate::base`]): it counts for its quota as if it had it alone, and is
//! held for all of them once.

use super::Budget;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::types::PoolKind;

/// Bytes set aside for each page that may have to be hidden: an entry without a payload, and its
/// place in the index.
const PER_PAGE: u64 = 32;

/// What a client has of bases.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    persistent: AtomicU64,
    ephemeral: AtomicU64,
    bytes: AtomicU64,
    /// Bytes set aside in the store for pages that are hidden later.
    aside: AtomicU64,
}

impl Shared {
    /// Counts pages that are seen, or not any more, and what they take of the quota.
    pub(crate) fn count(&self, kind: PoolKind, is_more: bool, pages: u64, bytes: u64) {
        let sum = match kind {
            PoolKind::Persistent => &self.persistent,
            PoolKind::Ephemeral => &self.ephemeral,
        };
        for (sum, by) in [(sum, pages), (&self.bytes, bytes)] {
            match is_more {
                true => sum.fetch_add(by, Relaxed),
                false => sum.fetch_sub(by, Relaxed),
            };
        }
    }

    /// Pages of persistent and of ephemeral pools.
    pub(crate) fn pages(&self) -> [u64; 2] {
        [&self.persistent, &self.ephemeral].map(|sum| sum.load(Relaxed))
    }

    /// Bytes that count for the quota.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

impl Budget {
    /// Sets memory aside so that so many pages of a base can be hidden, whatever else is held by then;
    /// whether there is as much.
    pub(crate) fn set_aside_for(&self, pages: u64) -> bool {
        let bytes = pages.saturating_mul(PER_PAGE);
        let store = &self.store;
        let is_there = store.ledger.set_aside(store.limit(), bytes);
        if is_there {
            self.shared.aside.fetch_add(bytes, Relaxed);
        }
        is_there
    }

    /// As [`Budget::set_aside_for`], whether or not there is as much.
    pub(crate) fn set_aside_anyway(&self, pages: u64) {
        let bytes = pages.saturating_mul(PER_PAGE);
        self.store.ledger.set_aside(u64::MAX, bytes);
        self.shared.aside.fetch_add(bytes, Relaxed);
    }

    /// A page was hidden.
    pub(crate) fn end_aside(&self) {
        let less = |bytes: u64| bytes.checked_sub(PER_PAGE);
        if self
            .shared
            .aside
            .fetch_update(Relaxed, Relaxed, less)
            .is_ok()
        {
            self.store.ledger.release(PER_PAGE);
        }
    }

    /// None will be any more.
    pub(crate) fn end_all_aside(&self) {
        let bytes = self.shared.aside.swap(0, Relaxed);
        self.store.ledger.release(bytes);
    }
}
