// SPDX-License-Identifier: GPL-2.0

//! Sets of pages.

use kernel::prelude::*;

/// One bit for each page.
pub(crate) struct Bits(KVVec<u64>);

impl Bits {
    /// All clear.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pages: u64) -> Result<Self> {
        let words = usize::try_from(pages.div_ceil(64))?;
        Ok(Self(KVVec::from_elem(0, words, GFP_KERNEL)?))
    }

    /// Whether there is a bit for `page`.
    pub(crate) fn covers(&self, page: u64) -> bool {
        page / 64 < self.0.len() as u64
    }

    /// The bit of `page`; clear beyond the end.
    pub(crate) fn get(&self, page: u64) -> bool {
        let word = self.0.get((page / 64) as usize).copied().unwrap_or(0);
        word >> (page % 64) & 1 != 0
    }

    /// Sets the bit of `page` and says whether that changed it.
    pub(crate) fn set(&mut self, page: u64, value: bool) -> bool {
        let Some(word) = self.0.get_mut((page / 64) as usize) else {
            return false;
        };
        let mask = 1 << (page % 64);
        let changed = (*word & mask != 0) != value;
        if changed {
            *word ^= mask;
        }
        changed
    }

    /// The first set bit at or after `page`.
    pub(crate) fn next(&self, page: u64) -> Option<u64> {
        let first = (page / 64) as usize;
        let mut mask = u64::MAX << (page % 64);
        for (i, word) in self.0.iter().enumerate().skip(first) {
            if word & mask != 0 {
                return Some(i as u64 * 64 + u64::from((word & mask).trailing_zeros()));
            }
            mask = u64::MAX;
        }
        None
    }

    /// Clears the bits from `page` on, `count` of them, and calls `cleared` for each that was set.
    pub(crate) fn clear(&mut self, page: u64, count: u64, mut cleared: impl FnMut(u64)) {
        let end = page.saturating_add(count);
        let mut at = page;
        while at < end {
            let upto = (at / 64 + 1) * 64;
            let Some(word) = self.0.get_mut((at / 64) as usize) else {
                return;
            };
            let mut mask = u64::MAX << (at % 64);
            if upto > end {
                mask &= u64::MAX >> (upto - end);
            }
            let mut found = *word & mask;
            *word &= !mask;
            while found != 0 {
                cleared(at / 64 * 64 + u64::from(found.trailing_zeros()));
                found &= found - 1;
            }
            at = upto;
        }
    }

    /// Adds the bits of `other`, which has as many, and clears those.
    pub(crate) fn take_all(&mut self, other: &mut Self) {
        for (word, more) in self.0.iter_mut().zip(other.0.iter_mut()) {
            *word |= core::mem::take(more);
        }
    }

    /// Clears all bits.
    pub(crate) fn clear_all(&mut self) {
        for word in self.0.iter_mut() {
            *word = 0;
        }
    }
}
