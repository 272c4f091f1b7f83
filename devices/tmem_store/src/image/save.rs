// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! All pages of a client in segments outside of page memory, and back: to save a virtual machine
//! and to restore it, here or elsewhere.

use std::collections::VecDeque;

use crate::client::Client;
use crate::pool::{Cursor, Pages};
use crate::sync::Arc;
use crate::tier::{Damaged, Owner, Packer, Unpacked};
use crate::types::{Identity, PoolKind, Refused};

/// Most bytes of a segment that [`Client::save`] gives.
pub const SAVED_SEGMENT: usize = crate::tier::SEGMENT;

/// All pages of a client, a segment of up to [`SAVED_SEGMENT`] bytes at a time.
///
/// Pages that are there all the time are in one of them. Who changes the client meanwhile may find
/// pages as they were before, or after.
#[derive(Debug)]
pub struct Save {
    identity: Identity,
    /// Each with those that it is over, of which pages are seen.
    pools: VecDeque<Arc<[Arc<Pages>]>>,
    /// Of the first pool, the one that is looked at.
    level: usize,
    cursor: Cursor,
    packer: Packer,
    /// Segments that are full.
    full: VecDeque<Vec<u8>>,
    /// How many there were.
    count: u64,
    pages: u64,
    lost: u64,
}

impl Client {
    /// All pages that the client has, as they are kept.
    pub fn save(&self) -> Save {
        let mut packer = Packer::new();
        packer.begin(1);
        Save {
            identity: self.member().budget.identity,
            pools: self
                .member()
                .visible_pools()
                .iter()
                .map(|(_, pool)| pool.levels())
                .collect(),
            level: 0,
            cursor: Cursor::START,
            packer,
            full: VecDeque::new(),
            count: 0,
            pages: 0,
            lost: 0,
        }
    }
}

impl Save {
    /// Pages in the segments so far, the one that is not full included.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages that the spill area does not give back: they are in no segment.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Packs the next pages; whether there may be more.
    fn step(&mut self) -> bool {
        let Some(levels) = self.pools.front().cloned() else {
            return false;
        };
        let (above, rest) = levels.split_at(self.level.min(levels.len()));
        let (Some(top), Some(pool)) = (levels.first(), rest.first()) else {
            self.pools.pop_front();
            self.level = 0;
            return true;
        };
        let mut cursor = self.cursor;
        let more = pool.visit(&mut cursor, &mut |owner, payload| {
            if above.iter().any(|above| above.covers(owner)) {
                return;
            }
            let owner = &Owner {
                pool: top.tag(),
                ..*owner
            };
            let Ok(payload) = payload else {
                self.lost += 1;
                return;
            };
            self.pages += 1;
            if self.packer.push(owner, payload).is_none() {
                self.end_segment();
                // An empty one has room for any page.
                let _ = self.packer.push(owner, payload);
            }
        });
        self.cursor = cursor;
        if !more {
            self.level += 1;
            self.cursor = Cursor::START;
        }
        true
    }

    /// What is packed is the next segment.
    fn end_segment(&mut self) {
        self.packer.end(self.identity);
        self.full.push_back(self.packer.bytes().to_vec());
        self.count += 1;
        self.packer.begin(self.count + 1);
    }
}

impl Iterator for Save {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        while self.full.is_empty() && self.step() {}
        if self.full.is_empty() && !self.packer.is_empty() {
            self.end_segment();
        }
        self.full.pop_front()
    }
}

/// Why a saved segment is not restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It is not as it was saved, or not the one that comes next.
    #[error("it is damaged, or not the segment that comes next")]
    Damaged,
    /// A page is of a pool that the client does not have.
    #[error("a page is of pool {pool}, which is not there")]
    NoPool {
        /// The client's number of it.
        pool: u32,
    },
    /// A persistent page was refused.
    #[error("a page was refused")]
    Refused(Refused),
}

/// What became of the pages of a saved segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Pages that are there now.
    pub pages: u64,
    /// Ephemeral pages for which there was no room.
    pub dropped: u64,
}

impl Client {
    /// Keeps the pages of a segment that [`Client::save`] has given as number `number`, from 1 on.
    /// Their pools are to be there.
    ///
    /// # Errors
    /// See [`RestoreError`]. Pages that came before it in the segment are there then.
    pub fn restore(&self, segment: &[u8], number: u64) -> Result<Restored, RestoreError> {
        let unpacked = Unpacked::of(segment, number).map_err(|Damaged| RestoreError::Damaged)?;
        let mut restored = Restored::default();
        let mut pool = None;
        for (owner, payload) in unpacked.pages() {
            let tag = owner.pool;
            let there = match pool.take() {
                Some((of, there)) if of == tag => Some(there),
                _ => self.pool(tag.id()),
            };
            let no_pool = RestoreError::NoPool { pool: tag.id() };
            let there = there.filter(|there| there.kind() == tag.kind());
            let there = there.ok_or(no_pool)?;
            let put = there.put_payload(owner.object, owner.index, payload);
            match put.result {
                Ok(()) => restored.pages += 1,
                Err(_) if tag.kind() == PoolKind::Ephemeral => restored.dropped += 1,
                Err(why) => return Err(RestoreError::Refused(why)),
            }
            pool = Some((tag, there));
        }
        Ok(restored)
    }
}
