// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Counts of what is under way.

use super::clone::Clones;
use super::split::Splits;
use std::cell::Cell;
use std::sync::Arc;

pub(crate) struct Gate(Cell<usize>);

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Cell::new(0)))
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Flight {
        self.join();
        Flight(self.clone())
    }

    pub(crate) fn join(&self) {
        self.0.set(self.0.get() + 1);
    }

    pub(crate) fn leave(&self) {
        self.0.set(self.0.get() - 1);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.get() == 0
    }
}

pub(crate) struct Flight(Arc<Gate>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// What all filters of a disk share.
pub(crate) struct Hook {
    pub(crate) clones: Clones,
    pub(crate) splits: Splits,
}

impl Hook {
    pub(crate) fn clones(&self) -> &Clones {
        &self.clones
    }

    pub(crate) fn splits(&self) -> &Splits {
        &self.splits
    }
}
