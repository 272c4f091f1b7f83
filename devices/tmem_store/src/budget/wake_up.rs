// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Waking the background thread.

use crate::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
    fence,
};
use crate::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Wakes a thread that looks for work, and sleeps while there is none.
#[derive(Debug, Default)]
pub(crate) struct WakeUp {
    /// The thread sleeps, or is about to once it has looked again.
    sleeping: AtomicBool,
    /// How often it was woken.
    count: Mutex<u64>,
    woken: Condvar,
}

impl WakeUp {
    /// Wakes the thread if it sleeps: there is work.
    pub(crate) fn wake(&self) {
        // Either this finds the thread asleep, or it finds what there is to do.
        fence(SeqCst);
        if self.sleeping.load(Relaxed) {
            self.wake_anyway();
        }
    }

    /// Wakes the thread, also if it is only about to sleep.
    pub(crate) fn wake_anyway(&self) {
        self.sleeping.store(false, Relaxed);
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.woken.notify_all();
    }

    /// Has who finds work from here on wake the thread, which looks for what was there
    /// before once more.
    pub(crate) fn about_to_sleep(&self) {
        self.sleeping.store(true, Relaxed);
        fence(SeqCst);
    }

    /// How often the thread was woken.
    pub(crate) fn count(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until the thread was woken more than `seen` times, or for `most`.
    pub(crate) fn wait(&self, seen: u64, most: Duration) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self
            .woken
            .wait_timeout_while(count, most, |count| *count == seen);
        drop(count.unwrap_or_else(PoisonError::into_inner));
    }
}
