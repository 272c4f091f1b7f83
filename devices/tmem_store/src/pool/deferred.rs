// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Deferred pages: what is put as it is, and compressed by and by.

use crate::sync::PoisonError;
use crate::sync::atomic::Ordering::Relaxed;

use super::{Change, Pages};
use crate::codec;
use crate::index::{Claim, Key, Place, SHARDS, Shard};
use crate::tier::{Content, EntryRef, LARGEST, Owner, Payload};
use crate::types::{PAGE_SIZE, Page, Put};

impl Pages {
    /// Puts a page as it is, deferred; `None` if it has to be
    /// compressed at once. `is_below`: it is no new page, as a base has an older one.
    pub(super) fn put_deferred(
        &self,
        key: &Key<'_>,
        nth: usize,
        page: &Page,
        is_below: bool,
    ) -> Option<Put> {
        use super::put::{Unpublished, refused};

        let content = self.keep_deferred(key, nth, page)?;
        match self.publish(key, nth, content, is_below) {
            Ok(prior_removed) => {
                self.budget.store.wake_if_worthwhile();
                Some(Put {
                    result: Ok(()),
                    prior_removed,
                })
            }
            Err((content, Unpublished::Refused(why))) => {
                self.free(content);
                Some(refused(why, false))
            }
            Err((content, Unpublished::Short(_))) => {
                self.free(content);
                None
            }
        }
    }

    fn keep_deferred(&self, key: &Key<'_>, nth: usize, page: &Page) -> Option<Content> {
        let owner = self.owner(key, nth);
        let content = self.budget.keep_deferred(&owner, page)?;
        if self.charge_self(LARGEST as u64).is_err() {
            self.budget.free(content);
            return None;
        }
        self.deferred.fetch_add(1, Relaxed);
        self.budget.counters.kept(self.kind(), &content);
        Some(content)
    }

    /// Deferred pages.
    pub(crate) fn deferred(&self) -> u64 {
        self.deferred.load(Relaxed)
    }

    /// Pages that a put compresses at a time when memory is short: about as
    /// many as fill half of a segment.
    pub(crate) const AT_ONCE: u64 = 16;

    /// Compresses some deferred pages at once, each under its shard's lock, and
    /// returns how many. Only the `patient` wait for locks.
    pub(crate) fn compress_now(&self, patient: bool) -> u64 {
        let mut done = 0;
        for nth in 0..SHARDS {
            if done < Self::AT_ONCE && self.lock(nth).deferred.load(Relaxed) {
                let compress_now =
                    |change: &mut Change<'_>| change.compress_now(Self::AT_ONCE - done);
                done += self.change_if(nth, patient, compress_now).unwrap_or(0);
            }
        }
        done
    }

    /// Compresses up to `pages` deferred pages, without locks held meanwhile,
    /// and returns how many it looked at.
    pub(crate) fn compress_some(&self, pages: u64) -> u64 {
        let mut page = [0; PAGE_SIZE];
        let mut done = 0;
        // One shard after the other: pages that are near each other get entries
        // that are, and leave whole segments when they go together.
        for nth in 0..SHARDS {
            while done < pages
                && self.lock(nth).deferred.load(Relaxed)
                && let Some(claim) = self.claim(nth, &mut page)
            {
                codec::compress(&page, |payload| self.finish(nth, claim, payload));
                done += 1;
            }
        }
        done
    }

    /// Copies a deferred page of a shard out, to be compressed.
    pub(super) fn claim(&self, nth: usize, page: &mut Page) -> Option<Claim> {
        let lock = &self.lock(nth).shard;
        let mut shard = lock.write().unwrap_or_else(PoisonError::into_inner);
        let claim = shard.claim()?;
        self.copy_out(&shard, claim.place(), page);
        Some(claim)
    }

    /// Copies a page that is kept as it is.
    fn copy_out(&self, shard: &Shard, place: Place, page: &mut Page) {
        if let Some(entry) = shard.view_at(place) {
            // What is deferred is a page: it decodes by being copied.
            let decoded = codec::decode(self.budget.store.arena.payload(entry), page);
            debug_assert_eq!(decoded, Ok(()));
        }
    }

    /// Keeps what a page was compressed to, unless the page was replaced or
    /// removed in the meantime.
    pub(super) fn finish(&self, nth: usize, claim: Claim, payload: Payload<'_>) {
        self.change(nth, |change| {
            if let Some(place) = change.shard.unclaim(claim) {
                change.settle(place, payload);
            }
        });
    }
}

impl Change<'_> {
    fn compress_now(&mut self, pages: u64) -> u64 {
        let pool = self.pool;
        let mut done = 0;
        while done < pages
            && let Some(place) = self.shard.next_deferred()
        {
            let mut page = [0; PAGE_SIZE];
            pool.copy_out(self.shard, place, &mut page);
            codec::compress(&page, |payload| self.settle(place, payload));
            done += 1;
        }
        done
    }

    /// Moves a deferred page to where it stays.
    fn settle(&mut self, place: Place, payload: Payload<'_>) {
        let pool = self.pool;
        let Some((object, index)) = self.shard.owner_of(place) else {
            return;
        };
        let owner = Owner {
            pool: pool.tag,
            object: &object,
            index,
        };
        let replace = |old| pool.settled(&owner, old, payload);
        self.shard.replace(place, replace);
    }
}

impl Pages {
    /// Keeps `payload` in place of the page that they were made of.
    fn settled(&self, owner: &Owner<'_>, old: Content, payload: Payload<'_>) -> Content {
        let counters = &self.budget.counters;
        counters.compressed_deferred_pages.add(1);
        counters.no_longer_as(&old);
        self.deferred.fetch_sub(1, Relaxed);
        let new = match (self.budget.keep_settled(owner, payload), old) {
            (Some(entry), old) => {
                let saved = LARGEST - entry.footprint();
                self.credit_self(saved as u64);
                self.budget.publish(EntryRef::of(&entry));
                self.budget.free(old);
                Content::Entry(entry)
            }
            // It stays where it is, as a page that does not compress.
            (None, Content::Deferred(entry)) => {
                self.budget.end_deferred();
                Content::Entry(entry)
            }
            (None, other) => other,
        };
        counters.kept_as(&new);
        new
    }
}
