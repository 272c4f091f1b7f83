// SPDX-License-Identifier: GPL-2.0

//! Sets of pages.
//!
//! They are as large as a disk, and are used with interrupts off. So whatever concerns many pages is
//! done for some at a time, and the next set bit is found without a look at each word.

use kernel::prelude::*;

/// One bit for each page.
pub(crate) struct Bits {
    words: KVVec<u64>,
    /// One bit for each word that is not 0.
    used: KVVec<u64>,
}

/// Where a bit is: its word, and its place in that.
fn place(bit: u64) -> (usize, u64) {
    ((bit / 64) as usize, bit % 64)
}

/// As many set bits, from the lowest on; at most 64.
pub(crate) fn ones(count: u32) -> u64 {
    u64::MAX
        .checked_shr(u64::BITS.saturating_sub(count))
        .unwrap_or(0)
}

/// Sets a bit of many. Says whether that changed it.
fn set(words: &mut [u64], bit: u64, value: bool) -> bool {
    let (at, shift) = place(bit);
    let Some(word) = words.get_mut(at) else {
        return false;
    };
    let mask = 1 << shift;
    let changed = (*word & mask != 0) != value;
    if changed {
        *word ^= mask;
    }
    changed
}

/// The first set bit at or after `bit`, of `words` words at most.
fn next(words: &[u64], bit: u64, most: usize) -> Option<u64> {
    let (first, shift) = place(bit);
    let mut mask = u64::MAX << shift;
    for (i, word) in words.iter().enumerate().skip(first).take(most) {
        if word & mask != 0 {
            return Some(i as u64 * 64 + u64::from((word & mask).trailing_zeros()));
        }
        mask = u64::MAX;
    }
    None
}

impl Bits {
    /// All clear.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pages: u64) -> Result<Self> {
        let words = pages.div_ceil(64);
        // Who wants the set says that there is no memory for it.
        let flags = GFP_KERNEL | __GFP_NOWARN;
        Ok(Self {
            words: KVVec::from_elem(0, usize::try_from(words)?, flags)?,
            used: KVVec::from_elem(0, usize::try_from(words.div_ceil(64))?, flags)?,
        })
    }

    /// Bytes of memory that a set of `pages` pages takes.
    pub(crate) fn bytes(pages: u64) -> u64 {
        let words = pages.div_ceil(64);
        (words + words.div_ceil(64)) * 8
    }

    /// Whether there is a bit for `page`.
    pub(crate) fn covers(&self, page: u64) -> bool {
        page / 64 < self.words.len() as u64
    }

    /// The bit of `page`; clear beyond the end.
    pub(crate) fn get(&self, page: u64) -> bool {
        let (at, shift) = place(page);
        self.words.get(at).copied().unwrap_or(0) >> shift & 1 != 0
    }

    /// Sets the bit of `page` and says whether that changed it.
    pub(crate) fn set(&mut self, page: u64, value: bool) -> bool {
        let changed = set(&mut self.words, page, value);
        if changed {
            let (at, _) = place(page);
            self.note(at);
        }
        changed
    }

    /// Sets the bits from `page` on, `count` of them, which lie in one word. Says which were set: a
    /// bit for each.
    pub(crate) fn add(&mut self, page: u64, count: u32) -> u64 {
        let (at, shift) = place(page);
        let Some(word) = self.words.get_mut(at) else {
            return 0;
        };
        let all = ones(count);
        let before = *word >> shift & all;
        if before != all {
            *word |= all << shift;
            self.note(at);
        }
        before
    }

    /// Notes whether a word that has changed is 0.
    fn note(&mut self, at: usize) {
        let is_used = self.words.get(at).is_some_and(|word| *word != 0);
        set(&mut self.used, at as u64, is_used);
    }

    /// The first set bit at or after `page`.
    pub(crate) fn next(&self, page: u64) -> Option<u64> {
        if let Some(found) = next(&self.words, page, 1) {
            return Some(found);
        }
        let word = next(&self.used, page / 64 + 1, usize::MAX)?;
        next(&self.words, word * 64, 1)
    }

    /// Clears the bits from `page` on, `count` of them, and calls `cleared` for each that was set.
    pub(crate) fn clear(&mut self, page: u64, count: u64, mut cleared: impl FnMut(u64)) {
        let end = page.saturating_add(count);
        let mut at = page;
        while at < end {
            let upto = (at / 64 + 1) * 64;
            let (i, shift) = place(at);
            let Some(word) = self.words.get_mut(i) else {
                return;
            };
            let mut mask = u64::MAX << shift;
            if upto > end {
                mask &= u64::MAX >> (upto - end);
            }
            let mut found = *word & mask;
            if found != 0 {
                *word &= !mask;
                self.note(i);
            }
            while found != 0 {
                cleared(at / 64 * 64 + u64::from(found.trailing_zeros()));
                found &= found - 1;
            }
            at = upto;
        }
    }
}
