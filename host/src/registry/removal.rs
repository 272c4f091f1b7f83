// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A virtual machine that is removed. To begin with it takes no time; its end waits for what is being
//! done for the machine, and that may be a read that a device does not answer.

use std::sync::Arc;

use super::{Entry, Registry};

/// A removal that has begun. The machine is still listed, and has its name; nothing of it is there
/// after a restart. If this is dropped, it may be removed once more.
#[derive(Debug)]
#[must_use]
pub struct Removal {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
    has_ended: bool,
}

impl Removal {
    pub(super) fn new(registry: Arc<Registry>, entry: Arc<Entry>) -> Self {
        Self {
            registry,
            entry,
            has_ended: false,
        }
    }

    /// Ends the connection of the machine, destroys its pools and removes its socket. Returns when this
    /// is done.
    pub fn end(mut self) {
        self.entry.machine().end();
        self.registry.forget(&self.entry);
        self.has_ended = true;
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        // Who still does something for it is to end, too.
        if !self.has_ended {
            self.entry.set_removed(false);
        }
    }
}
