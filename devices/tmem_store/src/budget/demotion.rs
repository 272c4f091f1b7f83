// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What operations and the demoter tell each other.

use super::WakeUp;
use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// What operations and the demoter tell each other.
#[derive(Debug, Default)]
pub(crate) struct Demotion {
    /// There is a demoter.
    pub(crate) runs: AtomicBool,
    /// Wakes the demoter: memory is short.
    pub(crate) wanted: WakeUp,
    /// Wakes who waits for it: pages have left memory.
    pub(crate) progress: WakeUp,
}

impl Demotion {
    /// Whether there is a demoter.
    pub(crate) fn has_thread(&self) -> bool {
        self.runs.load(Relaxed)
    }

    /// Has the demoter work if it sleeps.
    pub(crate) fn want(&self) {
        self.wanted.wake();
    }

    /// Waits until pages have left memory, for `most`. What has left before `seen` does not
    /// count.
    pub(crate) fn wait(&self, seen: u64, most: Duration) {
        self.progress.wait(seen, most);
    }
}
