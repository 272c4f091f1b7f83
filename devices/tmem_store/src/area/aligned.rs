// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory for bytes of an area.

use crate::types::PAGE_SIZE;
use std::ops::{Deref, DerefMut};

/// Bytes of the blocks that any entry lies in.
pub(crate) const WINDOW: usize = 3 * PAGE_SIZE;

/// The whole blocks that some bytes lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Where the first one begins.
    pub(crate) start: usize,
    /// Bytes of all of them.
    pub(crate) len: usize,
    /// Bytes before those that are wanted.
    pub(crate) skipped: usize,
}

impl Blocks {
    /// Blocks of `align` bytes with the `len` bytes from `offset` on.
    pub(crate) fn around(offset: usize, len: usize, align: usize) -> Self {
        let skipped = offset % align;
        Self {
            start: offset - skipped,
            len: (skipped + len).next_multiple_of(align),
            skipped,
        }
    }
}

/// Memory as direct I/O wants it.
#[derive(Debug)]
#[repr(align(4096))]
pub(crate) struct Aligned<const N: usize>([u8; N]);

impl<const N: usize> Aligned<N> {
    /// Zeros.
    pub(crate) const fn new() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Deref for Aligned<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> DerefMut for Aligned<N> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
