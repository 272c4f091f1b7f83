// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One shard of a pool's index.

use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::BLOCK_PAGES;
use super::key::{Key, Seed};
use super::maps::Maps;
use crate::tier::{Cells, Content, Entry, EntryRef, Location};
use crate::types::ObjectId;

/// The index would outgrow what it may, or what the system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfRoom;

/// One shard of a pool's index.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// The pool was destroyed: nothing may be put any more.
    pub(crate) gone: bool,
    pub(super) maps: Maps,
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

    /// Pages that are there.
    pub(crate) fn pages(&self) -> u64 {
        self.maps.pages
    }

    /// What is kept of page `nth` of a block that is got, and whether it was got before.
    pub(crate) fn view(&self, key: &Key<'_>, nth: usize) -> Option<(EntryRef<'_>, bool)> {
        self.view_if(key, nth, |_| true)
    }

    /// As [`Shard::view`], if the entry is where it is `wanted`; else it counts as not used.
    pub(crate) fn view_if(
        &self,
        key: &Key<'_>,
        nth: usize,
        wanted: impl FnOnce(Location) -> bool,
    ) -> Option<(EntryRef<'_>, bool)> {
        let block = self.maps.blocks.get(self.maps.find(key)?)?;
        let view = block.cells.view(nth)?;
        if !wanted(view.location()) {
            return None;
        }
        if self.maps.has_ages && !block.referenced.load(Relaxed) {
            block.referenced.store(true, Relaxed);
        }
        let again = block.cells.mark_used(nth);
        Some((view, again))
    }

    /// Whether the entry at `location` is what is kept of page `nth` of a block, and
    /// was used since this was last asked.
    pub(crate) fn was_used(&self, key: &Key<'_>, nth: usize, location: Location) -> Option<bool> {
        let block = self.maps.blocks.get(self.maps.find(key)?)?;
        block.cells.was_used(nth, location)
    }

    /// Whether the entry at `location` is what is kept of page `nth` of a block.
    pub(crate) fn is_at(&self, key: &Key<'_>, nth: usize, location: Location) -> bool {
        let block = self.maps.find(key).and_then(|at| self.maps.blocks.get(at));
        let view = block.and_then(|block| block.cells.view(nth));
        view.is_some_and(|view| view.is_at(location))
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
        let old = maps.put(number, nth, content);
        if maps.has_ages
            && let Some(block) = maps.blocks.get_mut(number)
        {
            block.stamp = stamp;
            block.referenced = AtomicBool::new(false);
            maps.renew(number);
        }
        old
    }

    /// Keeps `new` for page `nth` of a block instead of the entry at `old`, and returns
    /// that; or returns `new` if it is another entry that is kept. `publish` has
    /// `new` first.
    pub(crate) fn move_entry(
        &mut self,
        key: &Key<'_>,
        nth: usize,
        old: Location,
        new: Entry,
        publish: impl FnOnce(EntryRef<'_>),
    ) -> Result<Entry, Entry> {
        let number = self.maps.find(key);
        match number.and_then(|number| self.maps.blocks.get_mut(number)) {
            Some(block) => block.cells.move_entry(nth, old, new, publish),
            None => Err(new),
        }
    }

    /// Removes page `nth` of a block.
    pub(crate) fn take(&mut self, key: &Key<'_>, nth: usize) -> Option<Content> {
        let number = self.maps.find(key)?;
        let content = self.maps.take(number, nth);
        if self.maps.is_empty(number) {
            self.maps.remove(number, &mut |_| ());
        }
        content
    }

    /// Removes page `nth` of a block, but not the block: it is to be filled
    /// again or removed by [`Shard::take`] soon.
    pub(crate) fn vacate(&mut self, key: &Key<'_>, nth: usize) -> Option<Content> {
        let number = self.maps.find(key)?;
        self.maps.take(number, nth)
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
            maps.renew(number);
        }
        0
    }

    /// Lets `visit` look at the pages of one block, the last whose number is below `before`, and
    /// gives its number; `None` if there is none. A block that is removed between two such calls
    /// has the last one take its place, so that from last to first none is left out.
    pub(crate) fn visit_before(
        &self,
        before: u32,
        visit: &mut dyn FnMut(&ObjectId, u64, EntryRef<'_>),
    ) -> Option<u32> {
        let len = u32::try_from(self.maps.blocks.len()).unwrap_or(u32::MAX);
        let number = before.min(len).checked_sub(1)?;
        let block = self.maps.blocks.get(number)?;
        let object = self.maps.objects.get(block.object)?;
        for (nth, index) in (0..Cells::COUNT).zip(block.number * BLOCK_PAGES..) {
            if let Some(entry) = block.cells.view(nth) {
                visit(&object.id, index, entry);
            }
        }
        Some(number)
    }

    /// Removes up to `blocks` blocks; `None` once there is none left.
    pub(crate) fn drain(&mut self, blocks: u32, free: &mut dyn FnMut(Content)) -> Option<u64> {
        let maps = &mut self.maps;
        let last = maps.blocks.len().checked_sub(1)?;
        let mut pages = 0;
        for number in (0..=u32::try_from(last).ok()?).rev().take(blocks as usize) {
            pages += maps.remove(number, free);
        }
        Some(pages)
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
