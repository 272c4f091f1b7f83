// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Puts.

use super::{Change, Pool};
use crate::account::Shortage;
use crate::codec;
use crate::config::Compression;
use crate::index::{Key, OutOfRoom, split};
use crate::reclaim::Effort;
use crate::tier::{Content, Owner, Payload};
use crate::types::{ObjectId, Page, PoolKind, Put, Refused};

impl Change<'_> {
    /// Makes sure that there is the block of `key`.
    fn prepare(&mut self, key: &Key<'_>, stamp: u64) -> Result<u32, Shortage> {
        let Self {
            pool,
            shard,
            granted,
            shortage,
        } = self;
        let mut may_grow = |bytes| match pool.charge(bytes) {
            Ok(()) => {
                *granted += bytes;
                true
            }
            Err(why) => {
                *shortage = why;
                false
            }
        };
        shard
            .prepare(key, stamp, &mut may_grow)
            .map_err(|OutOfRoom| *shortage)
    }
}

impl Pool {
    /// Copies `page` into the store, in place of an older page of that handle.
    /// If it is refused, nothing is under the handle any more.
    pub fn put(&self, object: &ObjectId, index: u64, page: &Page) -> Put {
        let (block, nth) = split(index);
        let key = Key::new(&self.seed, object, block);
        let put = self.put_at(&key, nth, page, &mut Effort::one());
        self.account.counters.put(put)
    }

    /// A put that is not yet counted.
    pub(super) fn put_at(
        &self,
        key: &Key<'_>,
        nth: usize,
        page: &Page,
        effort: &mut Effort,
    ) -> Put {
        let shard = self.shard(key.shard());
        if shard.gone {
            return refused(Refused::PoolGone, false);
        }
        let there = shard.has(key, nth);
        drop(shard);
        if !there && self.account.is_frozen() {
            return refused(Refused::Frozen, false);
        }
        if let Some(same) = codec::same_filled(page) {
            return self.put_encoded(key, nth, same, there, effort);
        }
        if self.account.compression() == Compression::None {
            let page = codec::raw(page);
            return self.put_encoded(key, nth, page, there, effort);
        }
        if let Some(put) = self.put_deferred(key, nth, page) {
            return put;
        }
        codec::compress(page, |payload| {
            self.account.counters.compressed_in_line.add(1);
            self.put_encoded(key, nth, payload, there, effort)
        })
    }

    /// Removes what is under the handle; whether there was anything.
    pub(super) fn remove(&self, key: &Key<'_>, nth: usize) -> bool {
        let old = self.change(key.shard(), |change| change.take(key, nth));
        let Some(old) = old else {
            return false;
        };
        self.free(old);
        true
    }

    fn put_encoded(
        &self,
        key: &Key<'_>,
        nth: usize,
        payload: Payload<'_>,
        there: bool,
        effort: &mut Effort,
    ) -> Put {
        let owner = self.owner(key, nth);
        let mut prior = false;
        let mut content = self.keep_or_compress(&owner, payload, there, effort);
        if content.is_err() && there {
            // The old page has to go in any case, and its memory may be just
            // what the new one needs. Its block stays: at the quota there may
            // be no room to make it again.
            let old = self.change(key.shard(), |change| {
                let old = change.shard.vacate(key, nth);
                change.buried(old)
            });
            prior = old.map(|old| self.free(old)).is_some();
            content = self.keep_or_compress(&owner, payload, there, effort);
        }
        loop {
            // What was found is kept until all is: two puts that give up what
            // the other needs would try for ever.
            let shortage = match content {
                Ok(kept) => match self.publish(key, nth, kept, prior) {
                    Ok(replaced) => {
                        return Put {
                            result: Ok(()),
                            prior_removed: prior || replaced,
                        };
                    }
                    Err((kept, Unpublished::Refused(why))) => {
                        self.free(kept);
                        return refused(why, prior);
                    }
                    Err((kept, Unpublished::Short(shortage))) => {
                        content = Ok(kept);
                        shortage
                    }
                },
                Err(shortage) => shortage,
            };
            if !self.make_room(shortage, effort) {
                if let Ok(kept) = content {
                    self.free(kept);
                }
                prior |= self.remove(key, nth);
                if !prior && self.kind() == PoolKind::Persistent {
                    self.account.note_refusal();
                }
                return refused(shortage.refusal(), prior);
            }
            if content.is_err() {
                content = self.keep(&owner, payload, there);
            }
        }
    }

    /// Finds memory for a page, also by compressing pages that wait for it.
    fn keep_or_compress(
        &self,
        owner: &Owner<'_>,
        payload: Payload<'_>,
        replaces: bool,
        effort: &mut Effort,
    ) -> Result<Content, Shortage> {
        loop {
            match self.keep(owner, payload, replaces) {
                Err(shortage) if self.compress_for(shortage, effort) => {}
                kept => return kept,
            }
        }
    }

    /// Finds memory for a page and counts it as kept.
    fn keep(
        &self,
        owner: &Owner<'_>,
        payload: Payload<'_>,
        replaces: bool,
    ) -> Result<Content, Shortage> {
        let content = self.account.keep(owner, payload, replaces)?;
        self.account.counters.kept(self.kind(), &content);
        let bytes = content.entry().footprint() as u64;
        if !crate::ledger::charge(&self.held, self.quota, bytes) {
            self.account.counters.dropped(self.kind(), &content);
            self.account.free(content);
            return Err(Shortage::Pool);
        }
        Ok(content)
    }

    /// Lets gets find `content`; whether an older page was there. `prior`: one
    /// was removed on the way, so that this is no new page.
    pub(super) fn publish(
        &self,
        key: &Key<'_>,
        nth: usize,
        content: Content,
        prior: bool,
    ) -> Result<bool, (Content, Unpublished)> {
        let stamp = self.stamp();
        let old = self.change(key.shard(), |change| {
            if change.shard.gone {
                return Err((content, Unpublished::Refused(Refused::PoolGone)));
            }
            if !prior && self.account.is_frozen() && !change.shard.has(key, nth) {
                return Err((content, Unpublished::Refused(Refused::Frozen)));
            }
            match change.prepare(key, stamp) {
                Ok(number) => {
                    self.account.publish(content.view());
                    let old = change.shard.put(number, nth, stamp, content);
                    Ok(change.buried(old))
                }
                Err(shortage) => Err((content, Unpublished::Short(shortage))),
            }
        })?;
        Ok(old.map(|old| self.free(old)).is_some())
    }
}

/// Why a page that had found memory is not found by gets.
pub(super) enum Unpublished {
    Refused(Refused),
    Short(Shortage),
}

pub(super) fn refused(why: Refused, prior_removed: bool) -> Put {
    Put {
        result: Err(why),
        prior_removed,
    }
}
