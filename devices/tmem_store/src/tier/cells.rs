// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sixteen pages at rest in 136 bytes.

use crate::sync::atomic::{AtomicU16, Ordering::Relaxed};

use crate::counters::Form;

use super::entry::{Entry, EntryRef, Location};

/// What is kept of a page.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an entry that is not freed is memory lost"]
pub(crate) enum Content {
    /// The page's bytes, as its codec makes them.
    Entry(Entry),
    /// The page itself, until it is compressed.
    Deferred(Entry),
}

impl Content {
    /// A look at it.
    pub(crate) fn view(&self) -> EntryRef<'_> {
        EntryRef::of(self.entry())
    }

    pub(crate) fn entry(&self) -> &Entry {
        let (Self::Entry(entry) | Self::Deferred(entry)) = self;
        entry
    }

    pub(crate) fn into_entry(self) -> Entry {
        let (Self::Entry(entry) | Self::Deferred(entry)) = self;
        entry
    }
}

impl From<&Content> for Form {
    fn from(content: &Content) -> Self {
        match content {
            Content::Deferred(_) => Self::Deferred,
            Content::Entry(entry) => entry.into(),
        }
    }
}

/// What is kept of the pages of a block.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    /// One bit per page that is kept.
    kept: u16,
    /// One bit per page that is kept and deferred.
    deferred: u16,
    /// One bit per page that was got since it was put or looked at by who makes
    /// cold pages smaller.
    used: AtomicU16,
    /// Locations of the entries.
    words: [u64; Self::COUNT],
}

impl Cells {
    /// Pages in a block.
    pub(crate) const COUNT: usize = 16;

    /// Whether no page is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept == 0
    }

    /// The first deferred page.
    pub(crate) fn first_deferred(&self) -> Option<usize> {
        (self.deferred != 0).then(|| self.deferred.trailing_zeros() as usize)
    }

    /// Whether page `nth` is deferred.
    fn is_deferred(&self, nth: usize) -> bool {
        nth < Self::COUNT && self.deferred >> nth & 1 != 0
    }

    /// Whether page `nth` is kept.
    pub(crate) fn has(&self, nth: usize) -> bool {
        nth < Self::COUNT && self.kept >> nth & 1 != 0
    }

    /// What is kept of page `nth`.
    pub(crate) fn view(&self, nth: usize) -> Option<EntryRef<'_>> {
        let word = *self.words.get(nth)?;
        self.has(nth)
            .then(|| EntryRef::new(Location::from_word(word), self))
    }

    /// Marks page `nth`, which is below [`Cells::COUNT`], as used; whether it was.
    pub(crate) fn mark_used(&self, nth: usize) -> bool {
        let bit = 1 << nth;
        // Most of what is got again is marked already: nothing is written then.
        self.used.load(Relaxed) & bit != 0 || self.used.fetch_or(bit, Relaxed) & bit != 0
    }

    /// Whether the entry at `location` is kept for page `nth`, is not deferred,
    /// and was used since this was last asked.
    pub(crate) fn was_used(&self, nth: usize, location: Location) -> Option<bool> {
        let is_there = self.has(nth) && !self.is_deferred(nth);
        let word = *self.words.get(nth)?;
        (is_there && word == location.word())
            .then(|| self.used.fetch_and(!(1 << nth), Relaxed) >> nth & 1 != 0)
    }

    /// Keeps `content` for page `nth`, which is below [`Cells::COUNT`], and
    /// returns what was kept before.
    pub(crate) fn put(&mut self, nth: usize, content: Content) -> Option<Content> {
        let old = self.take(nth);
        let (entry, deferred) = match content {
            Content::Entry(entry) => (entry, 0),
            Content::Deferred(entry) => (entry, 1),
        };
        if let Some(to) = self.words.get_mut(nth) {
            *to = entry.into_location().word();
            self.kept |= 1 << nth;
            self.deferred |= deferred << nth;
        }
        old
    }

    /// Keeps nothing for page `nth` any more and returns what was kept.
    pub(crate) fn take(&mut self, nth: usize) -> Option<Content> {
        let word = *self.words.get(nth)?;
        if !self.has(nth) {
            return None;
        }
        let entry = Entry::new(Location::from_word(word));
        let content = if self.is_deferred(nth) {
            Content::Deferred(entry)
        } else {
            Content::Entry(entry)
        };
        self.kept &= !(1 << nth);
        self.deferred &= !(1 << nth);
        *self.used.get_mut() &= !(1 << nth);
        Some(content)
    }

    /// Keeps `new` for page `nth` instead of the entry at `old`, and returns that;
    /// or returns `new` if another entry is kept, or a deferred one. `publish` has
    /// `new` first.
    pub(crate) fn move_entry(
        &mut self,
        nth: usize,
        old: Location,
        new: Entry,
        publish: impl FnOnce(EntryRef<'_>),
    ) -> Result<Entry, Entry> {
        let is_there = self.has(nth) && !self.is_deferred(nth);
        match self.words.get_mut(nth) {
            Some(word) if is_there && *word == old.word() => {
                publish(EntryRef::of(&new));
                *word = new.into_location().word();
                Ok(Entry::new(old))
            }
            _ => Err(new),
        }
    }
}
