// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The thread that works in the background: it compresses deferred pages, and
//! reclaims what operations leave to it.

use crate::sync::Arc;
use crate::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
};
use std::time::{Duration, Instant};

use crate::background::{Background, Waking};
use crate::config::Recompression;
use crate::reclaim::Reclaimer;

/// Pages looked at before another pool may be more worthwhile.
const BATCH: u64 = 64;

/// Least and longest time until cold pages are looked for again if there are none.
const IDLE: Duration = Duration::from_millis(50);
const MOST_IDLE: Duration = Duration::from_secs(10);

/// Longest time while something is to be tidied once its client is at rest.
const UNTIDY: Duration = Duration::from_millis(500);

/// How long after the last work the thread looks for more by itself, and how often: until
/// then no put has to wake it, which takes longer than the put.
const LINGER: Duration = Duration::from_millis(20);
const POLL: Duration = Duration::from_millis(1);

/// How often the thread looks whether spare memory is still needed.
const SPARE: Duration = Duration::from_millis(250);

/// How much nicer the thread is than others. Not the lowest priority: it holds
/// a shard's lock for moments, and were it never to run then, requests would
/// wait for it.
const NICER: i32 = 10;

/// Counts a thread among the helpers until it has ended, however that is.
struct Counted(Arc<Reclaimer>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.budget.helpers.fetch_sub(1, Relaxed);
    }
}

/// A thread that compresses deferred pages, brings clients within lowered quotas and makes room; it
/// ends when this is dropped.
#[derive(Debug)]
pub struct Compressor {
    _thread: Background,
}

impl Compressor {
    pub(crate) fn start(
        reclaimer: Arc<Reclaimer>,
        prepare: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        reclaimer.budget.helpers.fetch_add(1, Relaxed);
        let counted = Counted(reclaimer.clone());
        let waking: Waking = |budget| &budget.wake_up;
        let thread = Background::start("compressor", reclaimer, waking, move |reclaimer, stop| {
            let _counted = counted;
            // Of this thread alone; a wish.
            let _ = rustix::process::nice(NICER);
            prepare();
            run(reclaimer, stop);
        });
        Ok(Self { _thread: thread? })
    }
}

fn run(reclaimer: &Reclaimer, stop: &AtomicBool) {
    let mut cold_again = Instant::now();
    let mut worked = None::<Instant>;
    while !stop.load(SeqCst) {
        let wake_up = &reclaimer.budget.wake_up;
        let count = wake_up.count();
        if work(reclaimer) {
            worked = Some(Instant::now());
            continue;
        }
        if worked.is_some_and(|worked| worked.elapsed() < LINGER) {
            wake_up.wait(count, POLL);
            continue;
        }
        let mut rest = recompress(reclaimer, &mut cold_again);
        if reclaimer.drop_unneeded() {
            rest = rest.min(SPARE);
        }
        // Who puts from here on wakes it; what was put before is looked for once
        // more.
        wake_up.about_to_sleep();
        if !work(reclaimer) && !stop.load(SeqCst) {
            wake_up.wait(count, rest);
        }
    }
}

/// Makes a piece of what is cold or at rest smaller, unless it is not `again` time for it; how long
/// to rest from it.
fn recompress(reclaimer: &Reclaimer, again: &mut Instant) -> Duration {
    let start = Instant::now();
    if start < *again {
        return *again - start;
    }
    let Recompression { after, cpu_percent } = *reclaimer.recompressor.setting();
    let is_busy = cpu_percent > 0 && (reclaimer.recompress_some() > 0 || reclaimer.tidy_some());
    let rest = if is_busy {
        let percent = cpu_percent.clamp(1, 100);
        start.elapsed() * (100 - percent) / percent
    } else if reclaimer.is_untidy() {
        (after / 4).clamp(IDLE, UNTIDY)
    } else {
        (after / 4).clamp(IDLE, MOST_IDLE)
    };
    *again = Instant::now() + rest;
    rest
}

/// A piece of what there is to do; whether there may be more.
fn work(reclaimer: &Reclaimer) -> bool {
    reclaimer.reclaim_some()
        | (reclaimer.compress_some(BATCH) > 0)
        | reclaimer.clean_some()
        | reclaimer.sweep_some()
}
