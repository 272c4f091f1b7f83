// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Deferred pages of a client: whether there may be one more, and
//! that each can be compressed at any later time.
//!
//! For that, memory is set aside as if the page were to be copied (the worst
//! case: it may not compress), and once per client for the segment
//! that a client has begun, while it has a deferred page. An
//! ordinary charge or allocation succeeds only while all of this is within
//! quota and limit, and if it is not, deferred pages are compressed first. So
//! from every state that ordinary operations leave behind, all deferred pages
//! can be compressed; then the client holds what it would hold had it never
//! deferred, and only then is a page evicted or a put refused.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{MutexGuard, PoisonError};

use super::{Budget, Shortage, charge};
use crate::codec;
use crate::tier::{Content, Entry, LARGEST, Owner, Payload, SEGMENT, Temperature};
use crate::types::Page;

/// Bytes set aside for a deferred page: its part of a segment, whose end may
/// stay empty.
const PER_PAGE: u64 = SEGMENT.div_ceil(SEGMENT / LARGEST - 1) as u64;

/// Bytes set aside for a client while any of its pages is deferred: for the segment
/// that is begun.
const PER_CLIENT: u64 = SEGMENT as u64;

impl Budget {
    fn deferred(&self) -> MutexGuard<'_, u64> {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a copy of the page, deferred; `None` if it
    /// has to be compressed at once, because too many are deferred already or because
    /// memory is short.
    pub(crate) fn keep_deferred(&self, owner: &Owner<'_>, page: &Page) -> Option<Content> {
        let store = &self.store;
        if !charge(&store.deferred_pages, store.most_deferred, 1) {
            return None;
        }
        if !self.set_aside() {
            store.deferred_pages.fetch_sub(1, Relaxed);
            return None;
        }
        let charge = |bytes| self.charge(bytes);
        let raw = codec::raw(page);
        let kept = self.append_ahead(Temperature::Deferred, owner, raw, charge);
        let Ok(entry) = kept else {
            self.end_deferred();
            return None;
        };
        Some(Content::Deferred(entry))
    }

    fn set_aside(&self) -> bool {
        let mut pages = self.deferred();
        let bytes = PER_PAGE + if *pages == 0 { PER_CLIENT } else { 0 };
        if !self.ledger.set_aside(self.memory_quota(), bytes) {
            return false;
        }
        if !self.store.ledger.set_aside(self.store.limit(), bytes) {
            self.ledger.release(bytes);
            return false;
        }
        *pages += 1;
        true
    }

    /// A page is no longer deferred.
    pub(crate) fn end_deferred(&self) {
        let mut pages = self.deferred();
        *pages -= 1;
        let bytes = PER_PAGE + if *pages == 0 { PER_CLIENT } else { 0 };
        self.ledger.release(bytes);
        self.store.ledger.release(bytes);
        drop(pages);
        self.store.deferred_pages.fetch_sub(1, Relaxed);
    }

    /// Whether pages of the client are deferred.
    pub(crate) fn has_deferred(&self) -> bool {
        *self.deferred() > 0
    }

    /// Whether memory that is set aside for deferred pages, the client's or
    /// anybody's, is in use: they have to be compressed first.
    pub(super) fn is_overdrawn(&self) -> Option<Shortage> {
        let store = &self.store;
        if store.deferred_pages.load(Relaxed) == 0 {
            return None;
        }
        if store.ledger.is_beyond(store.limit()) {
            return Some(Shortage::Store);
        }
        let beyond = self.ledger.is_beyond(self.memory_quota()) && self.has_deferred();
        beyond.then_some(Shortage::Client)
    }

    /// Memory for what has become of a page that was deferred, out of what was set
    /// aside. `None` if there is none all the same: the page then stays as it
    /// is.
    pub(crate) fn keep_settled(&self, owner: &Owner<'_>, payload: Payload<'_>) -> Option<Entry> {
        if let Some(entry) = self.fill(owner, payload) {
            return Some(entry);
        }
        // Room for it was set aside within quota and limit; if these were lowered
        // since, this is the way back to them.
        let charge = |bytes: u64| {
            let held = self.store.ledger.held();
            let room = held.saturating_add(bytes) <= self.store.most();
            room.then(|| self.charge_anyway(bytes))
                .ok_or(Shortage::Store)
        };
        self.append_ahead(Temperature::Warm, owner, payload, charge)
            .ok()
    }
}
