// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sixteen pages at rest in 136 bytes.

use super::entry::{Entry, EntryRef, Location};

/// What is kept of a page.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an entry that is not freed is memory lost"]
pub(crate) enum Content {
    /// The page is this word, repeated.
    Same(u64),
    /// The page's bytes, as its codec makes them.
    Entry(Entry),
    /// The page itself, which is to be compressed later.
    Waiting(Entry),
}

impl Content {
    /// A look at it.
    pub(crate) fn view(&self) -> View<'_> {
        match self {
            Self::Same(word) => View::Same(*word),
            Self::Entry(entry) | Self::Waiting(entry) => View::Entry(EntryRef::of(entry)),
        }
    }
}

/// A look at what is kept of a page.
#[derive(Debug)]
pub(crate) enum View<'a> {
    /// The page is this word, repeated.
    Same(u64),
    /// The page's bytes.
    Entry(EntryRef<'a>),
}

#[cfg(test)]
impl<'a> View<'a> {
    /// Borrows an entry.
    pub(super) fn of(entry: &'a Entry) -> EntryRef<'a> {
        EntryRef::of(entry)
    }
}

/// What is kept of the pages of a block.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    /// Two bits per page: [`EMPTY`], [`SAME`] or [`ENTRY`]. The fourth value is
    /// left for pages in a tier below memory.
    kinds: u32,
    /// One bit per page of kind [`ENTRY`] that waits to be compressed.
    waiting: u16,
    /// The repeated word, or the location of the entry.
    words: [u64; Self::COUNT],
}

const EMPTY: u32 = 0;
const SAME: u32 = 1;
const ENTRY: u32 = 2;

impl Cells {
    /// Pages in a block.
    pub(crate) const COUNT: usize = 16;

    fn kind(&self, nth: usize) -> u32 {
        if nth < Self::COUNT {
            self.kinds >> (2 * nth) & 3
        } else {
            EMPTY
        }
    }

    fn set_kind(&mut self, nth: usize, kind: u32) {
        self.kinds = self.kinds & !(3 << (2 * nth)) | kind << (2 * nth);
    }

    /// Whether no page is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds == 0
    }

    /// The first page that waits to be compressed.
    pub(crate) fn first_waiting(&self) -> Option<usize> {
        (self.waiting != 0).then(|| self.waiting.trailing_zeros() as usize)
    }

    /// Whether page `nth` waits to be compressed.
    fn is_waiting(&self, nth: usize) -> bool {
        nth < Self::COUNT && self.waiting >> nth & 1 != 0
    }

    /// Whether page `nth` is kept.
    pub(crate) fn has(&self, nth: usize) -> bool {
        self.kind(nth) != EMPTY
    }

    /// What is kept of page `nth`.
    pub(crate) fn view(&self, nth: usize) -> Option<View<'_>> {
        let word = *self.words.get(nth)?;
        match self.kind(nth) {
            SAME => Some(View::Same(word)),
            ENTRY => {
                let location = Location::from_word(word);
                Some(View::Entry(EntryRef::new(location, self)))
            }
            _ => None,
        }
    }

    /// Keeps `content` for page `nth`, which is below [`Cells::COUNT`], and
    /// returns what was kept before.
    pub(crate) fn put(&mut self, nth: usize, content: Content) -> Option<Content> {
        let old = self.take(nth);
        let (kind, word, waiting) = match content {
            Content::Same(word) => (SAME, word, 0),
            Content::Entry(entry) => (ENTRY, entry.into_location().word(), 0),
            Content::Waiting(entry) => (ENTRY, entry.into_location().word(), 1),
        };
        if let Some(to) = self.words.get_mut(nth) {
            *to = word;
            self.set_kind(nth, kind);
            self.waiting |= waiting << nth;
        }
        old
    }

    /// Keeps nothing for page `nth` any more and returns what was kept.
    pub(crate) fn take(&mut self, nth: usize) -> Option<Content> {
        let word = *self.words.get(nth)?;
        let kind = self.kind(nth);
        let waiting = self.is_waiting(nth);
        self.set_kind(nth, EMPTY);
        match kind {
            SAME => Some(Content::Same(word)),
            ENTRY => {
                let entry = Entry::new(Location::from_word(word));
                self.waiting &= !(1 << nth);
                Some(if waiting {
                    Content::Waiting(entry)
                } else {
                    Content::Entry(entry)
                })
            }
            _ => None,
        }
    }

    /// Keeps `new` for page `nth` instead of the entry at `old`, and returns that;
    /// or returns `new` if another entry is kept, or one that waits.
    pub(crate) fn move_entry(
        &mut self,
        nth: usize,
        old: Location,
        new: Entry,
    ) -> Result<Entry, Entry> {
        let is_there = self.kind(nth) == ENTRY && !self.is_waiting(nth);
        match self.words.get_mut(nth) {
            Some(word) if is_there && *word == old.word() => {
                *word = new.into_location().word();
                Ok(Entry::new(old))
            }
            _ => Err(new),
        }
    }
}
