// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What operations and the demoter tell each other.
//!
//! The demoter works in turns: in each it looks for what is to be done, and writes a segment or two.
//! An operation that finds no memory waits for the end of a turn. If the area has answered nothing
//! for [`STALL`] meanwhile, it stalls: until it answers, nobody else waits.

use super::WakeUp;
use crate::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long somebody waits for one read or write of a segment. A healthy device needs a hundredth of it,
/// a bad one a tenth.
const STALL: Duration = Duration::from_secs(1);

/// What came of waiting for the demoter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// A turn has ended: there may be memory.
    Ended,
    /// The area stalls from now on.
    Stalls,
    /// It was waited for long enough, or should not be waited for.
    InVain,
}

/// What operations and the demoter tell each other.
#[derive(Debug, Default)]
pub(crate) struct Demotion {
    /// There is a demoter.
    runs: AtomicBool,
    /// Wakes the demoter: memory is short.
    pub(crate) wanted: WakeUp,
    /// Somebody has found no memory.
    is_due: AtomicBool,
    /// Turns that have ended. It is changed with the lock held.
    turns: AtomicU64,
    lock: Mutex<()>,
    ended: Condvar,
    /// How often the area has answered the demoter, or a turn has ended.
    answers: AtomicU64,
    /// One more than the answers there were when somebody waited in vain; 0 if nobody did.
    stalled: AtomicU64,
}

impl Demotion {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a demoter.
    pub(crate) fn has_thread(&self) -> bool {
        self.runs.load(SeqCst)
    }

    /// There is a demoter from now on, or none any more.
    pub(crate) fn set_has_thread(&self, runs: bool) {
        self.runs.store(runs, SeqCst);
        // Who waits for one that is gone does so in vain.
        self.end_turn();
    }

    /// Has the demoter work if it sleeps.
    pub(crate) fn want(&self) {
        self.wanted.wake();
    }

    /// Takes the word of operations that have found no memory: pages are to leave it, however much
    /// seems to be left.
    pub(crate) fn take_due(&self) -> bool {
        self.is_due.swap(false, SeqCst)
    }

    /// How many turns have ended. To be asked before memory is looked for: what comes back later is
    /// then not missed.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Acquire)
    }

    /// Says that a turn of the demoter has ended.
    pub(crate) fn end_turn(&self) {
        self.answered();
        let lock = self.lock();
        self.turns.fetch_add(1, Release);
        drop(lock);
        self.ended.notify_all();
    }

    /// Says that the area has answered, if only with an error.
    pub(crate) fn answered(&self) {
        self.answers.fetch_add(1, Relaxed);
    }

    /// Whether somebody has waited in vain, and the area has not answered since.
    pub(crate) fn is_stalled(&self) -> bool {
        let stalled = self.stalled.load(Relaxed);
        stalled != 0 && stalled == self.answers.load(Relaxed).wrapping_add(1)
    }

    /// Has the demoter work, and waits until more turns have ended than `seen`, for `most`. Nobody waits
    /// if there is no demoter, or the area stalls.
    pub(crate) fn wait(&self, seen: u64, most: Duration) -> Waited {
        if !self.has_thread() || self.is_stalled() {
            return Waited::InVain;
        }
        self.is_due.store(true, SeqCst);
        self.want();
        let is_under_way = |(): &mut ()| self.turns() == seen && self.has_thread();
        let mut left = most;
        let mut lock = self.lock();
        while !left.is_zero() && !self.is_stalled() {
            let answers = self.answers.load(Relaxed);
            let time = left.min(STALL);
            let waited = self.ended.wait_timeout_while(lock, time, is_under_way);
            let (locked, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if !timeout.timed_out() {
                return Waited::Ended;
            }
            lock = locked;
            left = left.saturating_sub(time);
            // With the lock held, so that one of those who wait says so.
            let is_silent = self.answers.load(Relaxed) == answers && !self.is_stalled();
            if time == STALL && is_silent {
                self.stalled.store(answers.wrapping_add(1), Relaxed);
                return Waited::Stalls;
            }
        }
        Waited::InVain
    }
}
