// SPDX-License-Identifier: GPL-2.0

//! Memory that pages are copied to, from the memory of bios and back.

use super::{
    bindings,
    bio::Bio, //
};
use core::ptr::NonNull;
use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::Arc, //
};

/// Pages side by side in memory.
///
/// # Invariants
///
/// `first` is the start of `words`, which is aligned to a page, `pages` pages long and not used by
/// itself.
pub(crate) struct Staging {
    first: NonNull<u8>,
    pages: u32,
    _words: KVec<u64>,
}

// SAFETY: The memory may be read and written by any task.
unsafe impl Send for Staging {}
// SAFETY: What two tasks make of it at the same time is up to them: it is bytes.
unsafe impl Sync for Staging {}

impl Staging {
    /// Makes `pages` pages, which is a power of two.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` when they are not whole.
    pub(crate) fn new(pages: u32) -> Result<Arc<Self>> {
        let mut words = KVec::from_elem(0u64, (pages as usize) << (PAGE_SHIFT - 3), GFP_KERNEL)?;
        let first = NonNull::new(words.as_mut_ptr().cast::<u8>()).ok_or(ENOMEM)?;
        // kmalloc() aligns what is a power of two to itself.
        if first.as_ptr() as usize % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }
        // INVARIANT: As above.
        Ok(Arc::new(
            Self {
                first,
                pages,
                _words: words,
            },
            GFP_KERNEL,
        )?)
    }

    /// Where page `at` is, if there are `count` from it on.
    pub(super) fn at(&self, at: u32, count: u32) -> Option<NonNull<u8>> {
        if at.checked_add(count)? > self.pages {
            return None;
        }
        // SAFETY: By the type invariant it lies inside.
        Some(unsafe { self.first.add((at as usize) << PAGE_SHIFT) })
    }

    /// Copies `count` pages of a bio's memory, from page `from` of it on, to page `at`.
    pub(crate) fn take(&self, at: u32, bio: &Bio, from: u32, count: u32) {
        if let Some(to) = self.at(at, count) {
            // SAFETY: There is room at `to`; the callee stays inside of the bio's memory.
            unsafe {
                bindings::tmem_bio_copy(
                    bio.as_ptr(),
                    from << PAGE_SHIFT,
                    to.as_ptr().cast(),
                    count << PAGE_SHIFT,
                    false,
                )
            }
        }
    }

    /// Copies `count` pages from page `at` on to a bio's memory, from page `to` of it on.
    pub(crate) fn give(&self, at: u32, bio: &mut Bio, to: u32, count: u32) {
        if let Some(from) = self.at(at, count) {
            // SAFETY: So many bytes are there; the callee stays inside of the bio's memory, which is
            // to be written while a read is owned.
            unsafe {
                bindings::tmem_bio_copy(
                    bio.as_ptr(),
                    to << PAGE_SHIFT,
                    from.as_ptr().cast(),
                    count << PAGE_SHIFT,
                    true,
                )
            }
        }
    }
}
