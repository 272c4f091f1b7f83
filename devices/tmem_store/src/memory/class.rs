// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Size classes of slots.

use super::SPAN_SIZE;
use crate::types::PAGE_SIZE;

/// Most bytes that a compressed page may have; a larger one saves too little
/// and is kept as it is.
pub(crate) const MAX_COMPRESSED: usize = 3072;

/// Slot sizes in bytes, smallest first: what remains when a span is cut into
/// 256, 128, 85 … 10, 8 equal parts, rounded down to 16 bytes. Steps are
/// about an eighth where compressed pages are common. The last is
/// [`Class::WAITING`].
const SIZES: [u16; 23] = [
    128, 256, 384, 512, 640, 720, 816, 928, 1024, 1168, 1360, 1488, 1632, 1808, 2048, 2176, 2336,
    2512, 2720, 2976, 3264, 4096, 4096,
];

/// A size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(u8);

impl Class {
    /// Number of classes; a class is below 32 so that 5 bits can name it.
    pub(crate) const COUNT: usize = SIZES.len();

    /// Whole pages that wait to be compressed. They have spans apart from pages
    /// that stay, so that these spans empty as their pages are compressed.
    pub(crate) const WAITING: Self = Self(22);

    /// The smallest class whose slots hold `len` bytes, for `len` up to
    /// [`PAGE_SIZE`].
    pub(crate) fn fitting(len: usize) -> Option<Self> {
        let nth = SIZES.partition_point(|size| usize::from(*size) < len);
        Self::nth(nth)
    }

    /// The class with this number.
    pub(super) fn nth(nth: usize) -> Option<Self> {
        let number = u8::try_from(nth).ok()?;
        (nth < Self::COUNT).then_some(Self(number))
    }

    /// The number of the class.
    pub(super) fn number(self) -> u8 {
        self.0
    }

    /// This class and all larger ones, smallest first.
    pub(super) fn and_larger(self) -> impl Iterator<Item = Self> {
        (self.0..).map_while(|nth| Self::nth(usize::from(nth)))
    }

    /// Bytes in a slot.
    pub(crate) fn slot_size(self) -> usize {
        SIZES
            .get(usize::from(self.0))
            .map_or(PAGE_SIZE, |size| usize::from(*size))
    }

    /// Slots in a span, at most 256.
    pub(super) fn slots(self) -> usize {
        SPAN_SIZE / self.slot_size()
    }
}
