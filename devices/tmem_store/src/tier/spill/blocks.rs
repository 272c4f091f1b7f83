// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that bytes of a spill area are read into and written from.

use super::super::{LARGEST, SEGMENT};
use crate::area::{Aligned, WINDOW};
use crate::types::PAGE_SIZE;

/// Blocks that an entry lies in.
pub(crate) type Window = Aligned<WINDOW>;

// An entry begins at 8 bytes before the end of a block at the latest.
const _: () = assert!(PAGE_SIZE - 8 + LARGEST <= WINDOW);

/// The bytes of a segment.
pub(crate) type SegmentBlocks = Aligned<SEGMENT>;
