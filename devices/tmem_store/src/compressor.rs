// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The thread that works in the background: it compresses deferred pages, and
//! reclaims what operations leave to it.

use crate::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
    fence,
};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Recompression;
use crate::store::Shared;

/// Waiting pages that are worth a wake-up. Fewer (a quarter of a MiB in the
/// whole store) may wait for more to come, so that a put rarely pays for it.
const WORTHWHILE: u64 = 64;

/// Pages looked at before another pool may be more worthwhile.
const BATCH: u64 = 64;

/// Least and longest time until cold pages are looked for again if there are none.
const IDLE: Duration = Duration::from_millis(50);
const MOST_IDLE: Duration = Duration::from_secs(10);

/// How much nicer the thread is than others. Not the lowest priority: it holds
/// a shard's lock for moments, and were it never to run then, requests would
/// wait for it.
const NICER: i32 = 10;

/// Wakes the compressor.
#[derive(Debug, Default)]
pub(crate) struct WakeUp {
    /// A compressor sleeps, or is about to once it has looked again.
    sleeping: AtomicBool,
    /// How often it was woken.
    count: Mutex<u64>,
    woken: Condvar,
}

impl WakeUp {
    fn wake(&self) {
        self.sleeping.store(false, Relaxed);
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.woken.notify_all();
    }

    /// How often it was woken.
    fn count(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until it was woken more than `seen` times, or for `most`.
    fn wait(&self, seen: u64, most: Duration) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self
            .woken
            .wait_timeout_while(count, most, |count| *count == seen);
        drop(count.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Shared {
    /// Wakes the compressor, if it sleeps and enough pages wait.
    pub(crate) fn wake_if_worthwhile(&self) {
        if self.deferred_pages.load(Relaxed) >= WORTHWHILE {
            self.wake();
        }
    }

    /// Wakes the compressor, if it sleeps.
    pub(crate) fn wake(&self) {
        // Either this finds the compressor asleep, or it finds what there is to do.
        fence(SeqCst);
        if self.wake_up.sleeping.load(Relaxed) {
            self.wake_up.wake();
        }
    }

    /// Compresses up to `pages` deferred pages of the pool that has most of
    /// them, and returns how many it looked at.
    pub(crate) fn compress_some(&self, pages: u64) -> u64 {
        let mut most = None;
        for account in self.accounts().iter() {
            for pool in account.pools().values() {
                let deferred = pool.deferred();
                if deferred > most.as_ref().map_or(0, |(deferred, _)| *deferred) {
                    most = Some((deferred, pool.clone()));
                }
            }
        }
        // No lock is held by now: others come and go while it compresses.
        most.map_or(0, |(_, pool)| pool.compress_some(pages))
    }
}

/// Counts a thread among the helpers until it has ended, however that is.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.helpers.fetch_sub(1, Relaxed);
    }
}

/// A thread that compresses deferred pages, brings clients within lowered quotas and makes room; it
/// ends when this is dropped.
#[derive(Debug)]
pub struct Compressor {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Compressor {
    pub(crate) fn start(
        shared: Arc<Shared>,
        prepare: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (of_thread, stop_of_thread) = (shared.clone(), stop.clone());
        shared.helpers.fetch_add(1, Relaxed);
        let counted = Counted(shared.clone());
        let thread = thread::Builder::new()
            .name("compressor".into())
            .spawn(move || {
                let _counted = counted;
                // Of this thread alone; a wish.
                let _ = rustix::process::nice(NICER);
                prepare();
                run(&of_thread, &stop_of_thread);
            })?;
        Ok(Self {
            shared,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.shared.wake_up.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported; pages then wait until
            // their memory is needed.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, stop: &AtomicBool) {
    let mut cold_again = Instant::now();
    while !stop.load(SeqCst) {
        let wake_up = &shared.wake_up;
        let count = wake_up.count();
        if work(shared) {
            continue;
        }
        let rest = recompress(shared, &mut cold_again);
        // Who puts from here on wakes it; what was put before is looked for once
        // more.
        wake_up.sleeping.store(true, Relaxed);
        fence(SeqCst);
        if !work(shared) && !stop.load(SeqCst) {
            wake_up.wait(count, rest);
        }
    }
}

/// Makes a piece of what is cold or at rest smaller, unless it is not `again` time for it; how long
/// to rest from it.
fn recompress(shared: &Shared, again: &mut Instant) -> Duration {
    let start = Instant::now();
    if start < *again {
        return *again - start;
    }
    let Recompression { after, cpu_percent } = *shared.recompression_mut();
    let is_busy = cpu_percent > 0 && (shared.recompress_some() > 0 || shared.tidy_some());
    let rest = if is_busy {
        let percent = cpu_percent.clamp(1, 100);
        start.elapsed() * (100 - percent) / percent
    } else {
        (after / 4).clamp(IDLE, MOST_IDLE)
    };
    *again = Instant::now() + rest;
    rest
}

/// A piece of what there is to do; whether there may be more.
fn work(shared: &Shared) -> bool {
    shared.reclaim_some() | (shared.compress_some(BATCH) > 0) | shared.clean_some()
}
