// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The thread that moves pages out of memory: it waits for a disk, or for other hosts, so that nobody
//! else has to.

use crate::reclaim::Reclaimer;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use crate::sync::thread::{self, JoinHandle};
use std::time::Duration;

/// How long it sleeps unless somebody wakes it, while there is nothing to do.
const IDLE: Duration = Duration::from_millis(500);

/// Says that there is a demoter until it has ended, however that is.
struct Running(Arc<Reclaimer>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.budget.demotion.runs.store(false, Relaxed);
        // Who waits for it does so in vain.
        self.0.budget.demotion.progress.wake_anyway();
    }
}

/// A thread that moves pages to the spill area while little memory is left; it ends when this is
/// dropped.
#[derive(Debug)]
pub struct Demoter {
    reclaimer: Arc<Reclaimer>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Demoter {
    pub(crate) fn start(
        reclaimer: Arc<Reclaimer>,
        prepare: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (of_thread, stop_of_thread) = (reclaimer.clone(), stop.clone());
        reclaimer.budget.demotion.runs.store(true, Relaxed);
        let running = Running(reclaimer.clone());
        let thread = thread::Builder::new()
            .name("demoter".into())
            .spawn(move || {
                let _running = running;
                prepare();
                run(&of_thread, &stop_of_thread);
            })?;
        Ok(Self {
            reclaimer,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Demoter {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.reclaimer.budget.demotion.wanted.wake_anyway();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported; pages then stay in memory until operations
            // move them.
            let _ = thread.join();
        }
    }
}

fn run(reclaimer: &Reclaimer, stop: &AtomicBool) {
    let demotion = &reclaimer.budget.demotion;
    let work = || {
        let any = reclaimer.demote_some();
        if any {
            demotion.progress.wake_anyway();
        }
        any
    };
    while !stop.load(SeqCst) {
        let count = demotion.wanted.count();
        if work() {
            continue;
        }
        // Who finds memory short from here on wakes it.
        demotion.wanted.about_to_sleep();
        if !work() && !stop.load(SeqCst) {
            demotion.wanted.wait(count, IDLE);
        }
    }
}
