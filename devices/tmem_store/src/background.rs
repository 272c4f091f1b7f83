// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Threads of a store.

use crate::budget::{StoreBudget, WakeUp};
use crate::reclaim::Reclaimer;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};
use crate::sync::thread::{self, JoinHandle};

/// What wakes a thread.
pub(crate) type Waking = fn(&StoreBudget) -> &WakeUp;

/// A thread of a store; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    reclaimer: Arc<Reclaimer>,
    stop: Arc<AtomicBool>,
    waking: Waking,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts a thread that does `run` until it is told to stop, and is woken by `waking` then.
    pub(crate) fn start(
        name: &str,
        reclaimer: Arc<Reclaimer>,
        waking: Waking,
        run: impl FnOnce(&Reclaimer, &AtomicBool) + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (of_thread, stop_of_thread) = (reclaimer.clone(), stop.clone());
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || run(&of_thread, &stop_of_thread))?;
        Ok(Self {
            reclaimer,
            stop,
            waking,
            thread: Some(thread),
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        (self.waking)(&self.reclaimer.budget).wake_anyway();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported; what it would have done is left to operations.
            let _ = thread.join();
        }
    }
}
