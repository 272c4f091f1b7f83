// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Puts: each is an attempt, which says what it is short of. Who makes room and has it
//! tried again is above.

use super::{Change, Pages};
use crate::budget::{Room, Shortage};
use crate::codec;
use crate::config::Compression;
use crate::index::{Key, OutOfRoom, split};
use crate::tier::{Content, Owner, Payload};
use crate::types::{ObjectId, Page, PoolKind, Put, Refused};

/// What becomes of an older page for which there is a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Older {
    /// It goes in any case.
    Goes,
    /// It stays if the new one is refused.
    Stays,
}

/// A page that is being put, and what it has found by now.
pub(crate) struct Attempt<'a> {
    pages: &'a Pages,
    key: &'a Key<'a>,
    nth: usize,
    payload: Payload<'a>,
    /// Which memory it may have.
    room: Room,
    /// There is a page below, of a base, which is seen.
    is_below: bool,
    older: Older,
    /// The older page may be given up.
    has_older: bool,
    /// The older page was given up.
    prior: bool,
    /// The page in page memory. It is kept until all else is found: two puts that give
    /// up what the other needs would try for ever.
    kept: Option<Content>,
}

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

impl Pages {
    /// See [`crate::Pool::put`]; if the page needs memory, `find` has it try until it is
    /// done.
    pub(crate) fn put(
        &self,
        object: &ObjectId,
        index: u64,
        page: &Page,
        older: Older,
        find: &mut dyn FnMut(Attempt<'_>) -> Put,
    ) -> Put {
        let (block, nth) = split(index);
        let key = Key::new(&self.seed, object, block);
        let put = self.put_at(&key, nth, page, older, find);
        self.budget.counters.put(put)
    }

    /// A put that is not yet counted.
    pub(super) fn put_at(
        &self,
        key: &Key<'_>,
        nth: usize,
        page: &Page,
        older: Older,
        find: &mut dyn FnMut(Attempt<'_>) -> Put,
    ) -> Put {
        let shard = self.shard(key.shard());
        if shard.gone {
            return refused(Refused::PoolGone, false);
        }
        let is_above = shard.has(key, nth);
        drop(shard);
        let is_below = self.older_below(key, nth);
        let there = is_above || is_below;
        if !there && self.budget.is_frozen() {
            return refused(Refused::Frozen, false);
        }
        let room = match (there, older) {
            (true, _) => Room::Replacing,
            (false, Older::Goes) => Room::New,
            (false, Older::Stays) => Room::Leaving,
        };
        let mut find = |payload: Payload<'_>| {
            let mut attempt = Attempt::new(self, (key, nth), payload, (room, older));
            attempt.is_below = is_below;
            find(attempt)
        };
        let put = if let Some(same) = codec::same_filled(page) {
            find(same)
        } else if self.budget.compression() == Compression::None {
            find(codec::raw(page))
        } else if self.budget.may_keep(room)
            && let Some(put) = self.put_deferred(key, nth, page, is_below)
        {
            put
        } else {
            codec::compress(page, |payload| {
                self.budget.counters.compressed_in_line_pages.add(1);
                find(payload)
            })
        };
        self.put_over(key, nth, is_below, put)
    }

    /// Removes what is under the handle; whether there was anything.
    pub(crate) fn remove(&self, key: &Key<'_>, nth: usize) -> bool {
        let was_below = self.hide_below(key, nth);
        self.remove_itself(key, nth) || was_below
    }

    /// Removes a page of the pool itself; whether there was one.
    pub(super) fn remove_itself(&self, key: &Key<'_>, nth: usize) -> bool {
        let old = self.change(key.shard(), |change| change.take(key, nth));
        let Some(old) = old else {
            return false;
        };
        self.free(old);
        true
    }

    /// Finds memory for a page and counts it as kept.
    fn keep(
        &self,
        owner: &Owner<'_>,
        payload: Payload<'_>,
        room: Room,
    ) -> Result<Content, Shortage> {
        let content = self.budget.keep(owner, payload, room)?;
        self.budget.counters.kept(self.kind(), &content);
        let bytes = content.entry().footprint() as u64;
        if let Err(shortage) = self.charge_self(bytes) {
            self.budget.counters.dropped(self.kind(), &content);
            self.budget.free(content);
            return Err(shortage);
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
            if !prior && self.budget.is_frozen() && !change.shard.has(key, nth) {
                return Err((content, Unpublished::Refused(Refused::Frozen)));
            }
            match change.prepare(key, stamp) {
                Ok(number) => {
                    self.budget.publish(content.view());
                    let old = change.shard.put(number, nth, stamp, content);
                    Ok(change.buried(old))
                }
                Err(shortage) => Err((content, Unpublished::Short(shortage))),
            }
        })?;
        Ok(old.map(|old| self.free(old)).is_some())
    }
}

impl<'a> Attempt<'a> {
    /// Of page `nth` of the block of `key`, which has found nothing yet.
    pub(super) fn new(
        pages: &'a Pages,
        (key, nth): (&'a Key<'a>, usize),
        payload: Payload<'a>,
        (room, older): (Room, Older),
    ) -> Self {
        Self {
            pages,
            key,
            nth,
            payload,
            room,
            older,
            has_older: room == Room::Replacing && older == Older::Goes,
            is_below: false,
            prior: false,
            kept: None,
        }
    }

    /// The pool that the page is put to.
    pub(crate) fn pages(&self) -> &Pages {
        self.pages
    }

    /// Puts the page if there is memory for it.
    ///
    /// # Errors
    /// What there is too little of.
    pub(crate) fn run(&mut self) -> Result<Put, Shortage> {
        let Self {
            pages, key, nth, ..
        } = *self;
        let kept = match self.kept.take() {
            Some(kept) => kept,
            None => pages.keep(&pages.owner(key, nth), self.payload, self.room)?,
        };
        match pages.publish(key, nth, kept, self.prior || self.is_below) {
            Ok(replaced) => Ok(Put {
                result: Ok(()),
                prior_removed: self.prior || replaced,
            }),
            Err((kept, Unpublished::Refused(why))) => {
                pages.free(kept);
                Ok(refused(why, self.prior))
            }
            Err((kept, Unpublished::Short(shortage))) => {
                self.kept = Some(kept);
                Err(shortage)
            }
        }
    }

    /// Gives the older page up, once, unless it is to stay; whether there was one. Its memory
    /// may be just what the new one needs. Its block stays: at the quota there may be no room to
    /// make it again.
    pub(crate) fn give_up_older(&mut self) -> bool {
        if !std::mem::take(&mut self.has_older) {
            return false;
        }
        let Self {
            pages, key, nth, ..
        } = *self;
        let old = pages.change(key.shard(), |change| {
            let old = change.shard.vacate(key, nth);
            change.buried(old)
        });
        self.prior |= old.map(|old| pages.free(old)).is_some();
        true
    }

    /// Ends without the page, and without an older one unless that is to stay.
    pub(crate) fn refuse(self, shortage: Shortage) -> Put {
        let Self {
            pages, key, nth, ..
        } = self;
        if let Some(kept) = self.kept {
            pages.free(kept);
        }
        let goes = self.older == Older::Goes;
        let prior = (goes && pages.remove(key, nth)) || self.prior;
        let is_new = !prior && (goes || self.room != Room::Replacing);
        if is_new && pages.kind() == PoolKind::Persistent {
            pages.budget.note_refusal();
        }
        refused(shortage.refusal(), prior)
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
