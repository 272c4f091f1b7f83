// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether a machine's driver stands still while its front end is connected: no queue runs, as when
//! the VMM has paused it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::trace::Trace;

/// How the driver was left, as long as it stands still.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    /// How often work on a queue has begun.
    begun: AtomicU64,
    is_at_rest: AtomicBool,
    trace: Mutex<Trace>,
}

impl Resting {
    /// Work on a queue begins.
    pub(crate) fn begins(&self) {
        self.begun.fetch_add(1, SeqCst);
        self.is_at_rest.store(false, SeqCst);
    }

    /// No queue runs any more, or none did yet.
    pub(crate) fn rests(&self, trace: Trace) {
        *self.trace() = trace;
        self.is_at_rest.store(true, SeqCst);
    }

    fn trace(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often work has begun, which is the same for as long as it stands still.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(SeqCst)
    }

    /// How it was left, if it stands still.
    pub(crate) fn left(&self) -> Option<Trace> {
        let trace = self.trace().clone();
        self.is_at_rest.load(SeqCst).then_some(trace)
    }
}
