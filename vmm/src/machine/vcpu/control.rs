// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Stopping vCPUs for a while, or for good.
//!
//! Lock order: there is one lock, and nothing is called while it is held.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long to wait for vCPUs to park before they are interrupted again: the
/// signal may have come just before the vCPU was entered.
const AGAIN: Duration = Duration::from_millis(1);

/// What vCPUs are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Run the guest.
    Run,
    /// Wait.
    Pause,
    /// End their threads.
    End,
}

/// What all vCPUs of a machine are to do, and which wait.
#[derive(Debug)]
pub struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    wanted: Wanted,
    parked: usize,
}

impl Control {
    /// `wanted` is what vCPUs do at first.
    pub fn new(wanted: Wanted) -> Self {
        Self {
            state: Mutex::new(State { wanted, parked: 0 }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What vCPUs are to do.
    pub fn wanted(&self) -> Wanted {
        self.lock().wanted
    }

    /// On a vCPU's thread: waits while the guest is paused. `false`: the
    /// thread is to end. `parked` is true when it did wait.
    pub fn park(&self, parked: &mut bool) -> bool {
        let mut state = self.lock();
        *parked = state.wanted == Wanted::Pause;
        while state.wanted == Wanted::Pause {
            state.parked += 1;
            self.changed.notify_all();
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.parked -= 1;
        }
        state.wanted == Wanted::Run
    }

    /// Lets vCPUs run again.
    pub fn resume(&self) {
        self.set(Wanted::Run);
    }

    /// Has vCPUs end, once they leave the guest.
    pub fn end(&self) {
        self.set(Wanted::End);
    }

    /// Has vCPUs wait, and returns when all do (or when they end instead).
    /// `interrupt` must make them leave the guest, and says how many there are.
    pub fn pause(&self, interrupt: impl Fn() -> usize) {
        self.set(Wanted::Pause);
        loop {
            let count = interrupt();
            let state = self.lock();
            let waiting = |state: &mut State| state.wanted == Wanted::Pause && state.parked < count;
            let (state, waited) = self
                .changed
                .wait_timeout_while(state, AGAIN, waiting)
                .unwrap_or_else(PoisonError::into_inner);
            if !waited.timed_out() || state.wanted != Wanted::Pause {
                return;
            }
        }
    }

    fn set(&self, wanted: Wanted) {
        let mut state = self.lock();
        if state.wanted != Wanted::End {
            state.wanted = wanted;
        }
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::thread;

    #[test]
    fn paused_threads_do_nothing_and_resumed_ones_go_on() {
        let control = Control::new(Wanted::Run);
        let turns = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut parked = false;
                    while control.park(&mut parked) {
                        turns.fetch_add(1, SeqCst);
                        thread::yield_now();
                    }
                });
            }
            for _ in 0..100 {
                control.pause(|| 3);
                let before = turns.load(SeqCst);
                thread::yield_now();
                assert_eq!(turns.load(SeqCst), before, "a paused thread went on");
                control.resume();
                while turns.load(SeqCst) == before {
                    thread::yield_now();
                }
            }
            control.end();
            // The end is final.
            control.resume();
        });
        assert_eq!(control.wanted(), Wanted::End);
    }
}
