// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bytes held, and bytes set aside: the books of a client and of the store.
//!
//! A deferred page will need memory before it gives its
//! own back, and must find it however full the store is by then. So bytes are
//! *set aside* for it: they hold nothing, but ordinary charges cannot have
//! them.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Adds `bytes` to `sum` unless that makes it more than `limit`.
pub(crate) fn charge(sum: &AtomicU64, limit: u64, bytes: u64) -> bool {
    sum.fetch_update(Relaxed, Relaxed, |sum| {
        sum.checked_add(bytes).filter(|sum| *sum <= limit)
    })
    .is_ok()
}

/// Books. Bytes are committed before they are held, and held no more before
/// they are committed no more: `held` never is above what it should be.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    held: AtomicU64,
    /// Bytes held and bytes set aside.
    committed: AtomicU64,
}

impl Ledger {
    /// Bytes held.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Bytes held and bytes set aside.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Relaxed)
    }

    /// Whether what is held and set aside is more than `limit`.
    pub(crate) fn is_beyond(&self, limit: u64) -> bool {
        self.committed() > limit
    }

    /// Charges bytes that are to be held, within `limit`.
    pub(crate) fn charge(&self, limit: u64, bytes: u64) -> bool {
        let charged = charge(&self.committed, limit, bytes);
        if charged {
            self.held.fetch_add(bytes, Relaxed);
        }
        charged
    }

    /// Charges bytes that are held, or for which others were set aside.
    pub(crate) fn charge_anyway(&self, bytes: u64) {
        self.committed.fetch_add(bytes, Relaxed);
        self.held.fetch_add(bytes, Relaxed);
    }

    /// Credits bytes that were charged.
    pub(crate) fn credit(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
        self.committed.fetch_sub(bytes, Relaxed);
    }

    /// Sets bytes aside, within `limit`.
    pub(crate) fn set_aside(&self, limit: u64, bytes: u64) -> bool {
        charge(&self.committed, limit, bytes)
    }

    /// Ends that bytes are set aside.
    pub(crate) fn release(&self, bytes: u64) {
        self.committed.fetch_sub(bytes, Relaxed);
    }
}
