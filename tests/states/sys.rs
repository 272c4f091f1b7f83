// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Stands in for `guest/sys`: bios and locks without a kernel.

pub(crate) mod bio;
pub(crate) mod blockdev;
pub(crate) mod clone;
pub(crate) mod content;
pub(crate) mod eviction;
pub(crate) mod hook;
pub(crate) mod irq_lock;
pub(crate) mod split;

use crate::world;

/// Lets the world go on until the condition holds.
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        world::wait();
    }
}

/// Whether a signal waits for the one who detaches.
pub(crate) fn signal_pending() -> bool {
    world::pause();
    world::world().has_signal.take()
}
