// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether a machine's driver stands still while its front end is connected: no queue runs, as when
//! the VMM has paused it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::trace::Trace;

/// How the driver was left, as long as it stands still.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    /// How often work on a queue has begun.
    begun: AtomicU64,
    is_at_rest: AtomicBool,
    trace: Mutex<Trace>,
    hold: Mutex<Held>,
}

/// What holds up who wants to begin.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// What the machine has is being replaced: it can be neither saved as it was nor as it will be.
    pub(crate) is_loading: bool,
}

impl Resting {
    /// Has nobody begin work on a queue, or free what the machine has, until this is dropped.
    pub(crate) fn hold(&self) -> MutexGuard<'_, Held> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for who cannot wait; `None` while somebody else holds it.
    pub(crate) fn try_hold(&self) -> Option<MutexGuard<'_, Held>> {
        match self.hold.try_lock() {
            Ok(held) => Some(held),
            Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Work on a queue begins, while this is held.
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
