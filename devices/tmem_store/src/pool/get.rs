// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Gets.

use super::Pages;
use super::ahead::{Asked, Found};
use crate::area::Reading;
use crate::codec;
use crate::index::{Key, split};
use crate::tier::{Codec, Owner, Payload, Pin, Temperature, Window};
use crate::types::{Get, Lost, ObjectId, Page};
use std::io::ErrorKind;
use std::time::Instant;

impl Pages {
    /// See [`crate::Pool::get`].
    pub(crate) fn get(&self, object: &ObjectId, index: u64, page: &mut Page) -> Get {
        let (block, nth) = split(index);
        let key = Key::new(&self.seed, object, block);
        // Nobody stops it.
        let get = self.get_at(&key, nth, page, &mut || true);
        self.budget.counters.get(get.unwrap_or(Get::Lost))
    }

    /// See [`crate::Pool::take`].
    pub(crate) fn take(&self, object: &ObjectId, index: u64, page: &mut Page) -> Get {
        let (block, nth) = split(index);
        let key = Key::new(&self.seed, object, block);
        // Who hides it has it.
        let is_below = self.hide_below(&key, nth);
        let taken = self.change(key.shard(), |change| change.take(&key, nth));
        let get = match taken {
            Some(content) => {
                let payload = self.budget.store.arena.payload(content.view());
                let get = decode(payload, page);
                self.free(content);
                self.budget.counters.taken_pages.add(1);
                get
            }
            None if is_below => {
                let get = self.get_hidden(&key, nth, page);
                // An ephemeral one may have been evicted since.
                if get != Get::Miss {
                    self.budget.counters.taken_pages.add(1);
                }
                get
            }
            None => Get::Miss,
        };
        self.budget.counters.get(get)
    }

    /// A get that is not yet counted; `None` if `go_on` stopped it.
    pub(super) fn get_at(
        &self,
        key: &Key<'_>,
        nth: usize,
        page: &mut Page,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<Get> {
        let is_hidden = self.hides_below(key, nth);
        let shard = self.shard(key.shard());
        let Some((entry, again)) = shard.view(key, nth) else {
            drop(shard);
            return match is_hidden {
                true => Some(Get::Miss),
                false => self.get_below(key, nth, page, go_on),
            };
        };
        // Decoding takes longer than a lock should be held.
        let pin = self.budget.log.pin(&self.budget.store.arena, entry);
        drop(shard);
        let found = Found { pin, again };
        if self.budget.store.arena.is_spilled(found.pin.location()) {
            let get = self.read_spilled(&found.pin, None, page, go_on);
            return self.promoted(key, nth, found, page, get);
        }
        let get = decode(self.budget.pinned(&found.pin), page);
        let is_slow = found.pin.location().codec() == Some(Codec::Zstd);
        if again && get == Get::Hit && is_slow {
            // Whoever got it twice may get it again.
            self.warm(&self.owner(key, nth), &found.pin, page);
        }
        self.budget.unpin(found.pin);
        Some(get)
    }

    /// A get of a page that was asked for; not yet counted. `None` if `go_on` stopped it.
    pub(super) fn get_asked(
        &self,
        key: &Key<'_>,
        nth: usize,
        asked: Asked,
        page: &mut Page,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<Get> {
        let Asked { found, reading, .. } = asked;
        let get = self.read_spilled(&found.pin, Some(reading), page, go_on);
        self.promoted(key, nth, found, page, get)
    }

    /// Moves a page that was read to memory if that is worth it.
    fn promoted(
        &self,
        key: &Key<'_>,
        nth: usize,
        Found { pin, again }: Found,
        page: &Page,
        get: Option<Get>,
    ) -> Option<Get> {
        if again && get == Some(Get::Hit) && self.warm(&self.owner(key, nth), &pin, page) {
            self.budget.counters.promoted_pages.add(1);
        }
        self.budget.unpin(pin);
        get
    }

    /// Reads a page from the spill area; `None` if `go_on` stopped it. It stays there: pages that are
    /// used once are better not moved.
    #[inline(never)]
    fn read_spilled(
        &self,
        pin: &Pin,
        begun: Option<Box<dyn Reading>>,
        page: &mut Page,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<Get> {
        let (start, counters) = (Instant::now(), &self.budget.counters);
        let mut window = Window::new();
        let arena = &self.budget.store.arena;
        let payload = arena.read_spilled(pin, begun, &mut window, go_on);
        if matches!(&payload, Err(error) if error.kind() == ErrorKind::Interrupted) {
            return None;
        }
        counters.spill_read_pages.add(1);
        counters.spill_read_microseconds.add_time(start);
        let get = decode(payload.ok(), page);
        if get == Get::Lost {
            counters.spill_read_errors.add(1);
        }
        Some(get)
    }

    /// Keeps a page in what is fast to decode, if there is room; whether it does. As long as its
    /// entry is pinned, no newer page can be in the same place.
    fn warm(&self, owner: &Owner<'_>, old: &Pin, page: &Page) -> bool {
        codec::compress(page, |payload| {
            let charge = |bytes| self.budget.charge(bytes);
            let new = (old.location(), payload);
            let kept = self.append_instead(Temperature::Warm, owner, new, false, charge);
            kept.is_ok_and(|bytes| bytes > 0)
        })
    }
}

fn decode(payload: Option<Payload<'_>>, page: &mut Page) -> Get {
    match codec::decode(payload, page) {
        Ok(()) => Get::Hit,
        Err(Lost) => Get::Lost,
    }
}
