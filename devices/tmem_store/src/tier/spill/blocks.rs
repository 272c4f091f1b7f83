// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that bytes of a spill area are read into and written from, aligned as direct I/O wants it.

use super::super::{LARGEST, SEGMENT};
use crate::types::PAGE_SIZE;
use std::ops::{Deref, DerefMut};

/// Blocks that an entry lies in.
#[derive(Debug)]
#[repr(align(4096))]
pub(crate) struct Window([u8; Self::BYTES]);

impl Window {
    const BYTES: usize = 3 * PAGE_SIZE;

    pub(crate) const fn new() -> Self {
        Self([0; Self::BYTES])
    }
}

// An entry begins at 8 bytes before the end of a block at the latest.
const _: () = assert!(PAGE_SIZE - 8 + LARGEST <= Window::BYTES);

impl Deref for Window {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Window {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// The bytes of a segment.
#[derive(Debug)]
#[repr(align(4096))]
pub(crate) struct SegmentBlocks([u8; SEGMENT]);

impl SegmentBlocks {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self([0; SEGMENT]))
    }
}

impl Deref for SegmentBlocks {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for SegmentBlocks {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
