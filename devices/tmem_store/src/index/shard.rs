// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One shard of a pool's index.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hashbrown::HashTable;

use super::key::{Key, Seed, shard_of};
use super::list::{Links, List};
use super::slab::Slab;
use super::{BLOCK_PAGES, STRIPE_BLOCKS};
use crate::memory::{Cells, Content, View};
use crate::types::ObjectId;

/// What blocks of one object share.
#[derive(Debug)]
struct Object {
    id: ObjectId,
    blocks: List,
    count: u32,
}

/// Sixteen consecutive pages of an object; at least one is there, unless a put
/// is about to replace it.
#[derive(Debug)]
struct Block {
    number: u64,
    /// When it was last put to or found to have been used.
    stamp: u64,
    object: u32,
    /// In the list of its object.
    siblings: Links,
    /// In the list of ages, if the pool is ephemeral.
    age: Links,
    /// A get found a page since `stamp`.
    referenced: AtomicBool,
    cells: Cells,
}

fn siblings(block: &mut Block) -> &mut Links {
    &mut block.siblings
}

fn age(block: &mut Block) -> &mut Links {
    &mut block.age
}

/// The index would outgrow what it may, or what the system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfRoom;

/// One shard of a pool's index.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// The pool was destroyed: nothing may be put any more.
    pub(crate) gone: bool,
    maps: Maps,
}

#[derive(Debug)]
struct Maps {
    seed: Seed,
    /// Numbers of blocks, by hash of object and number.
    by_key: HashTable<u32>,
    blocks: Slab<Block>,
    /// Numbers of objects, by hash.
    by_id: HashTable<u32>,
    objects: Slab<Object>,
    /// The blocks of an ephemeral pool, oldest first.
    ages: List,
    has_ages: bool,
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
    fn new(seed: Seed, has_ages: bool) -> Self {
        Self {
            seed,
            by_key: HashTable::new(),
            blocks: Slab::default(),
            by_id: HashTable::new(),
            objects: Slab::default(),
            ages: List::EMPTY,
            has_ages,
        }
    }

    fn bytes(&self) -> usize {
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
            *self = Self::new(self.seed.clone(), self.has_ages);
        }
    }

    fn find(&self, key: &Key<'_>) -> Option<u32> {
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

    fn find_object(&self, id: &ObjectId) -> Option<u32> {
        let same = |number: &u32| {
            self.objects
                .get(*number)
                .is_some_and(|object| object.id == *id)
        };
        self.by_id.find(self.seed.object(id), same).copied()
    }

    /// Most bytes by which `insert` can grow the index.
    fn growth(&self) -> usize {
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
        let rehash = |number: &u32| {
            objects
                .get(*number)
                .map_or(0, |other| seed.object(&other.id))
        };
        self.by_id.try_reserve(1, rehash).ok()?;
        let number = self.objects.insert(Object {
            id: *id,
            blocks: List::EMPTY,
            count: 0,
        })?;
        let (seed, objects) = (&self.seed, &self.objects);
        let rehash = |number: &u32| {
            objects
                .get(*number)
                .map_or(0, |other| seed.object(&other.id))
        };
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

    fn insert(&mut self, key: &Key<'_>, stamp: u64) -> Option<u32> {
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
        let hash = |number: &u32| {
            let block = blocks.get(*number);
            let object = block.and_then(|block| objects.get(block.object));
            match (block, object) {
                (Some(block), Some(object)) => seed.block(&object.id, block.number),
                _ => 0,
            }
        };
        self.by_key.try_reserve(1, hash).ok()?;
        let number = self.blocks.insert(Block {
            number: key.block,
            stamp,
            object,
            siblings: Links::NONE,
            age: Links::NONE,
            referenced: AtomicBool::new(false),
            cells: Cells::default(),
        })?;
        // There is room: nothing is hashed again.
        self.by_key.insert_unique(key.hash, number, |_| 0);
        Some(number)
    }

    /// Removes a block and lets `free` have its pages.
    fn remove(&mut self, number: u32, free: &mut dyn FnMut(Content)) -> u64 {
        let Some(block) = self.blocks.get(number) else {
            return 0;
        };
        let owner = block.object;
        let hash = self
            .objects
            .get(owner)
            .map_or(0, |object| self.seed.block(&object.id, block.number));
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
        let Some(mut block) = self.blocks.remove(number) else {
            return 0;
        };
        let mut pages = 0;
        for nth in 0..Cells::COUNT {
            if let Some(content) = block.cells.take(nth) {
                free(content);
                pages += 1;
            }
        }
        if self.blocks.len() == 0 {
            self.reset();
        }
        pages
    }

    /// Removes the pages `first..=last` of a block and lets `free` have them.
    fn remove_pages(
        &mut self,
        number: u32,
        first: u64,
        last: u64,
        free: &mut dyn FnMut(Content),
    ) -> u64 {
        let Some(block) = self.blocks.get_mut(number) else {
            return 0;
        };
        let start = block.number * BLOCK_PAGES;
        let mut pages = 0;
        for nth in 0..Cells::COUNT {
            let index = start + nth as u64;
            if index >= first
                && index <= last
                && let Some(content) = block.cells.take(nth)
            {
                free(content);
                pages += 1;
            }
        }
        if block.cells.is_empty() {
            self.remove(number, free);
        }
        pages
    }
}

impl Shard {
    /// An empty shard; with `has_ages`, blocks can be evicted by age.
    pub(crate) fn new(seed: Seed, has_ages: bool) -> Self {
        Self {
            gone: false,
            maps: Maps::new(seed, has_ages),
        }
    }

    /// Bytes of memory that the shard holds outside of itself.
    pub(crate) fn bytes(&self) -> u64 {
        self.maps.bytes() as u64
    }

    /// What is kept of page `nth` of a block.
    pub(crate) fn view(&self, key: &Key<'_>, nth: usize) -> Option<View<'_>> {
        let block = self.maps.blocks.get(self.maps.find(key)?)?;
        let view = block.cells.view(nth)?;
        if self.maps.has_ages && !block.referenced.load(Relaxed) {
            block.referenced.store(true, Relaxed);
        }
        Some(view)
    }

    /// Whether page `nth` of a block is there.
    pub(crate) fn has(&self, key: &Key<'_>, nth: usize) -> bool {
        let block = self.maps.find(key).and_then(|at| self.maps.blocks.get(at));
        block.is_some_and(|block| block.cells.has(nth))
    }

    /// Makes sure that there is the block; it is empty if it was not there,
    /// and has to be filled by [`Shard::put`] under the same lock. `may_grow`
    /// is asked with the most bytes that the index may grow by.
    pub(crate) fn prepare(
        &mut self,
        key: &Key<'_>,
        stamp: u64,
        may_grow: &mut dyn FnMut(u64) -> bool,
    ) -> Result<u32, OutOfRoom> {
        if let Some(number) = self.maps.find(key) {
            return Ok(number);
        }
        if !may_grow(self.maps.growth() as u64) {
            return Err(OutOfRoom);
        }
        self.maps.insert(key, stamp).ok_or(OutOfRoom)
    }

    /// Keeps `content` for page `nth` of a block from [`Shard::prepare`], and
    /// returns what was kept before.
    pub(crate) fn put(
        &mut self,
        number: u32,
        nth: usize,
        stamp: u64,
        content: Content,
    ) -> Option<Content> {
        let maps = &mut self.maps;
        let Some(block) = maps.blocks.get_mut(number) else {
            return Some(content);
        };
        let old = block.cells.put(nth, content);
        if maps.has_ages {
            block.stamp = stamp;
            block.referenced = AtomicBool::new(false);
            maps.ages.remove(&mut maps.blocks, age, number);
            maps.ages.push(&mut maps.blocks, age, number);
        }
        old
    }

    /// Removes page `nth` of a block.
    pub(crate) fn take(&mut self, key: &Key<'_>, nth: usize) -> Option<Content> {
        let number = self.maps.find(key)?;
        let block = self.maps.blocks.get_mut(number)?;
        let content = block.cells.take(nth);
        if block.cells.is_empty() {
            self.maps.remove(number, &mut |_| ());
        }
        content
    }

    /// Removes page `nth` of a block, but not the block: it is to be filled
    /// again or removed by [`Shard::take`] soon.
    pub(crate) fn vacate(&mut self, key: &Key<'_>, nth: usize) -> Option<Content> {
        let number = self.maps.find(key)?;
        self.maps.blocks.get_mut(number)?.cells.take(nth)
    }

    /// Removes the pages `first..=last` of an object, as far as they are in
    /// this shard, which is number `shard`. Costs the blocks of the range or
    /// the blocks of the object, whichever are fewer.
    pub(crate) fn flush(
        &mut self,
        object: &ObjectId,
        (first, last): (u64, u64),
        shard: usize,
        free: &mut dyn FnMut(Content),
    ) -> u64 {
        let maps = &mut self.maps;
        let Some(owner) = maps.find_object(object).and_then(|at| maps.objects.get(at)) else {
            return 0;
        };
        let (start, end) = (first / BLOCK_PAGES, last / BLOCK_PAGES);
        let (count, mut next) = (owner.count, owner.blocks.first);
        let mut pages = 0;
        if u64::from(count) <= end - start {
            while let Some(block) = maps.blocks.get(next) {
                let number = std::mem::replace(&mut next, block.siblings.next);
                if (start..=end).contains(&block.number) {
                    pages += maps.remove_pages(number, first, last, free);
                }
            }
            return pages;
        }
        let mut block = start;
        while block <= end {
            if shard_of(object, block) != shard {
                // The next stripe. Block numbers end at 2^60: no overflow.
                block = (block / STRIPE_BLOCKS + 1) * STRIPE_BLOCKS;
                continue;
            }
            if let Some(number) = maps.find(&Key::new(&maps.seed, object, block)) {
                pages += maps.remove_pages(number, first, last, free);
            }
            block += 1;
        }
        pages
    }

    /// The stamp of the oldest block, if blocks have ages and there is one.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let block = self.maps.blocks.get(self.maps.ages.first)?;
        Some(block.stamp)
    }

    /// Removes the oldest block. With `spare_used`, blocks that a get found a
    /// page in since they became so old count as new as `stamp` instead, and
    /// there may be nothing left to remove this time.
    pub(crate) fn evict(
        &mut self,
        stamp: u64,
        spare_used: bool,
        free: &mut dyn FnMut(Content),
    ) -> u64 {
        /// Blocks looked at, so that the cost has a bound.
        const MOST: u32 = 32;
        let maps = &mut self.maps;
        for _ in 0..MOST {
            let number = maps.ages.first;
            let Some(block) = maps.blocks.get_mut(number) else {
                return 0;
            };
            if block.stamp == stamp {
                return 0;
            }
            if !std::mem::take(block.referenced.get_mut()) || !spare_used {
                return maps.remove(number, free);
            }
            block.stamp = stamp;
            maps.ages.remove(&mut maps.blocks, age, number);
            maps.ages.push(&mut maps.blocks, age, number);
        }
        0
    }

    /// Empties the shard for good and returns what it held.
    pub(crate) fn destroy(&mut self) -> Self {
        let empty = Self {
            gone: true,
            maps: Maps::new(self.maps.seed.clone(), self.maps.has_ages),
        };
        std::mem::replace(self, empty)
    }

    /// Lets `free` have all pages of a shard that nobody else uses any more.
    pub(crate) fn into_pages(mut self, free: &mut dyn FnMut(Content)) -> u64 {
        let mut pages = 0;
        for block in self.maps.blocks.iter_mut() {
            for nth in 0..Cells::COUNT {
                if let Some(content) = block.cells.take(nth) {
                    free(content);
                    pages += 1;
                }
            }
        }
        pages
    }
}
