// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a store holds, and what it did.

use std::time::Duration;

/// What the store holds, and what it did.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) pages: u64,
    /// Page memory and bookkeeping.
    pub(super) held_bytes: u64,
    /// Page memory that the system reports behind the mapping.
    pub(super) mapped_bytes: u64,
    /// Pages that are still to be compressed.
    pub(super) deferred_pages: u64,
    /// Bytes of pages that were moved to make room, if the store counts them.
    pub(super) moved_bytes: Option<u64>,
    /// CPU time of the background thread, if the kernel says it.
    pub(super) background_cpu: Option<Duration>,
}

/// What changes while the store works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Activity {
    pub(super) held_bytes: u64,
    pub(super) deferred_pages: u64,
    pub(super) moved_bytes: Option<u64>,
}

impl State {
    /// What changes while the store still works.
    pub(super) fn activity(&self) -> Activity {
        Activity {
            held_bytes: self.held_bytes,
            deferred_pages: self.deferred_pages,
            moved_bytes: self.moved_bytes,
        }
    }
}
