// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Queues of bios.

use super::Bio;
use std::collections::VecDeque;

pub(crate) struct BioList(VecDeque<Bio>);

impl BioList {
    pub(crate) const fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, bio: Bio) {
        self.0.push_back(bio);
    }

    pub(crate) fn pop(&mut self) -> Option<Bio> {
        self.0.pop_front()
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}
