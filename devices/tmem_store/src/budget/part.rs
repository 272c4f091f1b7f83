// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A part of what a client holds, and its limit.

use super::charge;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes of entries and index, as pools count them.
#[derive(Debug)]
pub(crate) struct Part {
    held: AtomicU64,
    quota: AtomicU64,
}

impl Default for Part {
    /// Without a limit of its own.
    fn default() -> Self {
        Self {
            held: AtomicU64::new(0),
            quota: AtomicU64::new(u64::MAX),
        }
    }
}

impl Part {
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    pub(crate) fn quota(&self) -> u64 {
        self.quota.load(Relaxed)
    }

    pub(crate) fn set_quota(&self, bytes: u64) {
        self.quota.store(bytes, Relaxed);
    }

    pub(crate) fn is_beyond(&self) -> bool {
        self.held() > self.quota()
    }

    /// Charges `bytes` if they are within the limit; whether they are.
    pub(crate) fn charge(&self, bytes: u64) -> bool {
        charge(&self.held, self.quota(), bytes)
    }

    /// Charges `bytes`, whatever the limit.
    pub(crate) fn charge_anyway(&self, bytes: u64) {
        self.held.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn credit(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
    }
}
