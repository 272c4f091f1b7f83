// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages as they are kept: all of a pool's, one after the other, and into a pool.

use super::Pages;
use super::put::{Attempt, Older};
use crate::budget::Room;
use crate::index::{Key, SHARDS, split};
use crate::tier::{EntryRef, Owner, Payload, Window};
use crate::types::{Lost, ObjectId, Put};

/// How far a look at all pages has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    shard: usize,
    /// Blocks of the shard from this number on were looked at.
    before: u32,
}

impl Cursor {
    pub(crate) const START: Self = Self {
        shard: 0,
        before: u32::MAX,
    };
}

impl Pages {
    /// Lets `visit` have the next pages, each as it is kept or [`Lost`] if it cannot be read; whether
    /// there may be more. Pages that are there all the time come at least once. No lock is held while
    /// they are read.
    pub(crate) fn visit(
        &self,
        cursor: &mut Cursor,
        visit: &mut dyn FnMut(&Owner<'_>, Result<Payload<'_>, Lost>),
    ) -> bool {
        /// Pages that are held in place at a time.
        const STEP: usize = 64;
        if cursor.shard >= SHARDS {
            return false;
        }
        let arena = &self.budget.store.arena;
        let mut pins = Vec::new();
        {
            let shard = self.shard(cursor.shard);
            while pins.len() < STEP {
                let mut pin = |object: &ObjectId, index: u64, entry: EntryRef<'_>| {
                    pins.push((*object, index, self.budget.log.pin(arena, entry)));
                };
                match shard.visit_before(cursor.before, &mut pin) {
                    Some(number) => cursor.before = number,
                    None => {
                        *cursor = Cursor {
                            shard: cursor.shard + 1,
                            ..Cursor::START
                        };
                        break;
                    }
                }
            }
        }
        let mut window = Window::new();
        for (object, index, pin) in pins {
            let owner = Owner {
                pool: self.tag,
                object: &object,
                index,
            };
            let payload = if arena.is_spilled(pin.location()) {
                arena
                    .read_spilled(&pin, None, &mut window, &mut || true)
                    .ok()
            } else {
                self.budget.pinned(&pin)
            };
            visit(&owner, payload.ok_or(Lost));
            self.budget.unpin(pin);
        }
        true
    }

    /// Puts a page as it was kept elsewhere, in place of an older one; `find` has it try until it is
    /// done. It does not count as a put.
    pub(crate) fn put_payload(
        &self,
        object: &ObjectId,
        index: u64,
        payload: Payload<'_>,
        find: &mut dyn FnMut(Attempt<'_>) -> Put,
    ) -> Put {
        let (block, nth) = split(index);
        let key = Key::new(&self.seed, object, block);
        let is_below = self.older_below(&key, nth);
        let room = match is_below || self.has_itself(&key, nth) {
            true => Room::Replacing,
            false => Room::New,
        };
        let put = find(Attempt::new(
            self,
            (&key, nth),
            payload,
            (room, Older::Goes),
        ));
        self.put_over(&key, nth, is_below, put)
    }

    /// Lets `visit` have the handles of some blocks of the pool itself; whether there may be more.
    pub(super) fn look_at(
        &self,
        cursor: &mut Cursor,
        blocks: usize,
        visit: &mut dyn FnMut(&ObjectId, u64),
    ) -> bool {
        if cursor.shard >= SHARDS {
            return false;
        }
        let shard = self.shard(cursor.shard);
        for _ in 0..blocks {
            let mut handle = |object: &ObjectId, index: u64, _: EntryRef<'_>| visit(object, index);
            match shard.visit_before(cursor.before, &mut handle) {
                Some(number) => cursor.before = number,
                None => {
                    cursor.shard += 1;
                    cursor.before = u32::MAX;
                    break;
                }
            }
        }
        true
    }
}
