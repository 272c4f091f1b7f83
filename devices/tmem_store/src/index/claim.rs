// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Deferred pages that are compressed without the shard's lock.

/// A page that is being compressed without the lock. It ends when that page
/// is replaced, removed or compressed by somebody else; its number is never
/// used again, so that a newer page in the same place is not taken for it,
/// even if it has the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(super) place: Place,
    /// Claims of the shard by then.
    pub(super) claims: u64,
}

impl Claim {
    /// The page, while the claim stands.
    pub(crate) fn place(self) -> Place {
        self.place
    }

    /// Whether it is on page `nth` of block `number`.
    pub(super) fn is_on(&self, number: u32, nth: usize) -> bool {
        self.place == Place { number, nth }
    }

    /// Block `before` has number `number` now.
    pub(super) fn renumber(&mut self, before: u32, number: u32) {
        if self.place.number == before {
            self.place.number = number;
        }
    }
}

/// A page in a shard, while its lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) number: u32,
    pub(super) nth: usize,
}
