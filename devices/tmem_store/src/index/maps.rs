// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Blocks and objects of one shard, and the ways to find them: by handle, by
//! object, by age.

use crate::sync::atomic::AtomicBool;

use hashbrown::HashTable;

use super::BLOCK_PAGES;
use super::claim::Claim;
use super::dense::Dense;
use super::key::{Key, Seed};
use super::list::{Links, List};
use super::slab::Slab;
use crate::tier::{Cells, Content};
use crate::types::ObjectId;

/// What blocks of one object share.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) id: ObjectId,
    pub(super) blocks: List,
    pub(super) count: u32,
}

/// Sixteen consecutive pages of an object; at least one is there, unless a put
/// is about to replace it.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) number: u64,
    /// When it was last put to or found to have been used.
    pub(super) stamp: u64,
    pub(super) object: u32,
    /// In the list of its object.
    pub(super) siblings: Links,
    /// In the list of ages, if the pool is ephemeral.
    age: Links,
    /// In the list of blocks with deferred pages, if it has any.
    line: Links,
    /// A get found a page since `stamp`.
    pub(super) referenced: AtomicBool,
    pub(super) cells: Cells,
}

fn siblings(block: &mut Block) -> &mut Links {
    &mut block.siblings
}

fn age(block: &mut Block) -> &mut Links {
    &mut block.age
}

fn line(block: &mut Block) -> &mut Links {
    &mut block.line
}

#[derive(Debug)]
pub(super) struct Maps {
    pub(super) seed: Seed,
    /// Numbers of blocks, by hash of object and number.
    by_key: HashTable<u32>,
    pub(super) blocks: Dense<Block>,
    /// Numbers of objects, by hash.
    by_id: HashTable<u32>,
    pub(super) objects: Slab<Object>,
    /// The blocks of an ephemeral pool, oldest first.
    pub(super) ages: List,
    pub(super) has_ages: bool,
    /// The blocks with deferred pages: whose first page has
    /// been deferred longest, first.
    pub(super) deferred: List,
    /// The page that is being compressed without the lock.
    pub(super) claim: Option<Claim>,
    /// Claims made.
    pub(super) claims: u64,
    /// Pages of all blocks.
    pub(super) pages: u64,
}

impl Default for Maps {
    fn default() -> Self {
        Self::new(Seed::default(), false)
    }
}

/// Most bytes that inserting into a hash table takes: none while there is
/// room, else twice of what it has.
fn table_growth(table: &HashTable<u32>) -> usize {
    if table.len() < table.capacity() {
        0
    } else {
        table.allocation_size().max(64) * 2
    }
}

impl Maps {
    pub(super) fn new(seed: Seed, has_ages: bool) -> Self {
        Self {
            seed,
            by_key: HashTable::new(),
            blocks: Dense::default(),
            by_id: HashTable::new(),
            objects: Slab::default(),
            ages: List::EMPTY,
            has_ages,
            deferred: List::EMPTY,
            claim: None,
            claims: 0,
            pages: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.by_key.allocation_size()
            + self.blocks.bytes()
            + self.by_id.allocation_size()
            + self.objects.bytes()
    }

    /// Gives back what an index without blocks still holds, but for so little
    /// that it is better kept for the next block.
    fn reset(&mut self) {
        if self.blocks.is_small() && self.objects.is_small() {
            self.by_key.clear();
            self.by_id.clear();
        } else {
            *self = Self {
                claims: self.claims,
                ..Self::new(self.seed.clone(), self.has_ages)
            };
        }
    }

    pub(super) fn find(&self, key: &Key<'_>) -> Option<u32> {
        let same = |number: &u32| {
            self.blocks.get(*number).is_some_and(|block| {
                block.number == key.block
                    && self
                        .objects
                        .get(block.object)
                        .is_some_and(|object| object.id == *key.object)
            })
        };
        self.by_key.find(key.hash, same).copied()
    }

    pub(super) fn find_object(&self, id: &ObjectId) -> Option<u32> {
        let same = |number: &u32| {
            self.objects
                .get(*number)
                .is_some_and(|object| object.id == *id)
        };
        self.by_id.find(self.seed.object(id), same).copied()
    }

    /// Most bytes by which `insert` can grow the index.
    pub(super) fn growth(&self) -> usize {
        table_growth(&self.by_key)
            + self.blocks.growth()
            + table_growth(&self.by_id)
            + self.objects.growth()
    }

    fn insert_object(&mut self, id: &ObjectId) -> Option<u32> {
        if let Some(number) = self.find_object(id) {
            return Some(number);
        }
        let (seed, objects) = (&self.seed, &self.objects);
        let rehash = |number: &u32| hash_of_object(seed, objects, *number);
        self.by_id.try_reserve(1, rehash).ok()?;
        let number = self.objects.insert(Object {
            id: *id,
            blocks: List::EMPTY,
            count: 0,
        })?;
        let (seed, objects) = (&self.seed, &self.objects);
        let rehash = |number: &u32| hash_of_object(seed, objects, *number);
        self.by_id.insert_unique(seed.object(id), number, rehash);
        Some(number)
    }

    fn remove_object(&mut self, number: u32) {
        let Some(object) = self.objects.remove(number) else {
            return;
        };
        let hash = self.seed.object(&object.id);
        if let Ok(entry) = self.by_id.find_entry(hash, |other| *other == number) {
            entry.remove();
        }
    }

    pub(super) fn insert(&mut self, key: &Key<'_>, stamp: u64) -> Option<u32> {
        let object = self.insert_object(key.object)?;
        let number = self.insert_block(key, stamp, object);
        match number {
            Some(number) => {
                if let Some(owner) = self.objects.get_mut(object) {
                    owner.count += 1;
                    owner.blocks.push(&mut self.blocks, siblings, number);
                }
                if self.has_ages {
                    self.ages.push(&mut self.blocks, age, number);
                }
            }
            None if self.objects.get(object).is_some_and(|o| o.count == 0) => {
                self.remove_object(object);
            }
            None => {}
        }
        number
    }

    fn insert_block(&mut self, key: &Key<'_>, stamp: u64, object: u32) -> Option<u32> {
        let (seed, blocks, objects) = (&self.seed, &self.blocks, &self.objects);
        let hash = |number: &u32| hash_of(seed, blocks, objects, *number);
        self.by_key.try_reserve(1, hash).ok()?;
        let number = self.blocks.insert(Block {
            number: key.block,
            stamp,
            object,
            siblings: Links::NONE,
            age: Links::NONE,
            line: Links::NONE,
            referenced: AtomicBool::new(false),
            cells: Cells::default(),
        })?;
        // There is room: nothing is hashed again.
        self.by_key.insert_unique(key.hash, number, |_| 0);
        Some(number)
    }

    /// Makes a block the youngest.
    pub(super) fn renew(&mut self, number: u32) {
        self.ages.remove(&mut self.blocks, age, number);
        self.ages.push(&mut self.blocks, age, number);
    }

    /// Lets `visit` have the indices of the pages of a block.
    pub(super) fn each_page(&self, number: u32, mut visit: impl FnMut(u64)) {
        let Some(block) = self.blocks.get(number) else {
            return;
        };
        for (nth, index) in (0..Cells::COUNT).zip(block.number * BLOCK_PAGES..) {
            if block.cells.has(nth) {
                visit(index);
            }
        }
    }

    /// Whether a block that is there has no pages.
    pub(super) fn is_empty(&self, number: u32) -> bool {
        let block = self.blocks.get(number);
        block.is_some_and(|block| block.cells.is_empty())
    }

    /// Keeps `content` for page `nth` of a block and returns what was kept.
    pub(super) fn put(&mut self, number: u32, nth: usize, content: Content) -> Option<Content> {
        let is_deferred = matches!(content, Content::Deferred(_));
        let old = self.take(number, nth);
        let Some(block) = self.blocks.get_mut(number) else {
            return Some(content);
        };
        let in_line = block.cells.first_deferred().is_some();
        // The place is empty.
        let _ = block.cells.put(nth, content);
        self.pages += 1;
        if is_deferred && !in_line {
            self.deferred.push(&mut self.blocks, line, number);
        }
        old
    }

    /// Keeps nothing for page `nth` of a block any more and returns what was
    /// kept; the block stays, even if it is empty now.
    pub(super) fn take(&mut self, number: u32, nth: usize) -> Option<Content> {
        let block = self.blocks.get_mut(number)?;
        let content = block.cells.take(nth)?;
        self.pages -= 1;
        if matches!(content, Content::Deferred(_)) {
            if block.cells.first_deferred().is_none() {
                self.deferred.remove(&mut self.blocks, line, number);
            }
            if self.claim.is_some_and(|claim| claim.is_on(number, nth)) {
                self.claim = None;
            }
        }
        Some(content)
    }

    /// Removes a block and lets `free` have its pages. Another block may have
    /// its number afterwards.
    pub(super) fn remove(&mut self, number: u32, free: &mut dyn FnMut(Content)) -> u64 {
        let mut pages = 0;
        for nth in 0..Cells::COUNT {
            if let Some(content) = self.take(number, nth) {
                free(content);
                pages += 1;
            }
        }
        self.remove_empty(number);
        pages
    }

    /// Removes a block without pages.
    fn remove_empty(&mut self, number: u32) {
        let hash = self.hash_of(number);
        let Some(owner) = self.blocks.get(number).map(|block| block.object) else {
            return;
        };
        if let Ok(entry) = self.by_key.find_entry(hash, |other| *other == number) {
            entry.remove();
        }
        if self.has_ages {
            self.ages.remove(&mut self.blocks, age, number);
        }
        if let Some(object) = self.objects.get_mut(owner) {
            object.blocks.remove(&mut self.blocks, siblings, number);
            object.count -= 1;
            if object.count == 0 {
                self.remove_object(owner);
            }
        }
        if let Some((_, Some(before))) = self.blocks.remove(number) {
            self.renumber(before, number);
        }
        if self.blocks.len() == 0 {
            self.reset();
        } else {
            self.shrink();
        }
    }

    /// The hash of a block's key.
    fn hash_of(&self, number: u32) -> u64 {
        let (seed, blocks, objects) = (&self.seed, &self.blocks, &self.objects);
        hash_of(seed, blocks, objects, number)
    }

    /// The block that had number `before` has number `number` now.
    fn renumber(&mut self, before: u32, number: u32) {
        let hash = self.hash_of(number);
        if let Some(found) = self.by_key.find_mut(hash, |other| *other == before) {
            *found = number;
        }
        let Some(block) = self.blocks.get(number) else {
            return;
        };
        let is_deferred = block.cells.first_deferred().is_some();
        if let Some(object) = self.objects.get_mut(block.object) {
            object.blocks.renumber(&mut self.blocks, siblings, number);
        }
        if self.has_ages {
            self.ages.renumber(&mut self.blocks, age, number);
        }
        if is_deferred {
            self.deferred.renumber(&mut self.blocks, line, number);
        }
        if let Some(claim) = &mut self.claim {
            claim.renumber(before, number);
        }
    }

    /// Gives back what the tables hold beyond need.
    fn shrink(&mut self) {
        let (seed, blocks, objects) = (&self.seed, &self.blocks, &self.objects);
        if let Some(least) = beyond_need(&self.by_key) {
            let hash = |number: &u32| hash_of(seed, blocks, objects, *number);
            self.by_key.shrink_to(least, hash);
        }
        if let Some(least) = beyond_need(&self.by_id) {
            let hash = |number: &u32| hash_of_object(seed, objects, *number);
            self.by_id.shrink_to(least, hash);
        }
    }

    /// Removes the pages `first..=last` of a block and lets `free` have them;
    /// the block goes with its last page.
    pub(super) fn remove_pages(
        &mut self,
        number: u32,
        first: u64,
        last: u64,
        free: &mut dyn FnMut(Content),
    ) -> Removed {
        let mut removed = Removed::default();
        let Some(block) = self.blocks.get(number) else {
            return removed;
        };
        let start = block.number * BLOCK_PAGES;
        for nth in 0..Cells::COUNT {
            let index = start + nth as u64;
            if index >= first
                && index <= last
                && let Some(content) = self.take(number, nth)
            {
                free(content);
                removed.pages += 1;
            }
        }
        if self.is_empty(number) {
            self.remove_empty(number);
            removed.gone = true;
        }
        removed
    }
}

/// What became of a block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Removed {
    /// Pages removed.
    pub(super) pages: u64,
    /// The block is gone. Another one may have its number.
    pub(super) gone: bool,
}

/// The hash of a block's key.
fn hash_of(seed: &Seed, blocks: &Dense<Block>, objects: &Slab<Object>, number: u32) -> u64 {
    let block = blocks.get(number);
    let object = block.and_then(|block| objects.get(block.object));
    match (block, object) {
        (Some(block), Some(object)) => seed.block(&object.id, block.number),
        _ => 0,
    }
}

/// The hash of an object's id.
fn hash_of_object(seed: &Seed, objects: &Slab<Object>, number: u32) -> u64 {
    let object = objects.get(number);
    object.map_or(0, |object| seed.object(&object.id))
}

/// To what a table that is three quarters empty is to shrink.
fn beyond_need(table: &HashTable<u32>) -> Option<usize> {
    const SMALL: usize = 64;
    let beyond = table.capacity() > SMALL && table.len() < table.capacity() / 4;
    beyond.then_some(table.capacity() / 2)
}
