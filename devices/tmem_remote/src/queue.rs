// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A queue for threads that may be held up: what has failed comes after what has not, and never has all
//! threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Items that are taken together.
const TOGETHER: usize = 16;

/// How long one thread that finds nothing looks before it sleeps: to be woken takes as long as a round
/// trip on a fast network. Whoever has something to do goes first.
pub(crate) const LOOK_FIRST: Duration = Duration::from_micros(60);

/// How long an item rests after it has failed, at first and at most: a node that is gone is not there
/// again so soon.
const REST: Duration = Duration::from_millis(10);
const MOST_REST: Duration = Duration::from_millis(320);

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// A thread looks at the queue, and need not be woken.
    is_looked_at: AtomicBool,
    ends: AtomicBool,
    /// Threads that may try at a time what has failed.
    most_tries: usize,
}

#[derive(Debug)]
struct State<T> {
    fresh: VecDeque<T>,
    failed: Vec<Failed<T>>,
    /// Threads that try again.
    tries: usize,
}

/// What has failed.
#[derive(Debug)]
pub(crate) struct Failed<T> {
    pub(crate) item: T,
    due: Instant,
    rest: Duration,
}

/// What a thread is to do next.
#[derive(Debug)]
pub(crate) enum Next<T> {
    /// Some that were not tried before.
    Fresh(Vec<T>),
    /// One that has failed. To be ended by [`Queue::tried`].
    Again(Failed<T>),
}

impl<T> Queue<T> {
    /// One for so many threads.
    pub(crate) fn for_threads(threads: usize) -> Self {
        Self {
            state: Mutex::new(State {
                fresh: VecDeque::new(),
                failed: Vec::new(),
                tries: 0,
            }),
            changed: Condvar::new(),
            is_looked_at: AtomicBool::new(false),
            ends: AtomicBool::new(false),
            most_tries: threads.saturating_sub(1).max(1),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item.
    pub(crate) fn push(&self, item: T) {
        self.state().fresh.push_back(item);
        // Who stops to look does so before it looks for the last time.
        if !self.is_looked_at.load(SeqCst) {
            self.changed.notify_one();
        }
    }

    /// Adds some that have failed for the first time.
    pub(crate) fn failed(&self, items: Vec<T>) {
        let due = Instant::now() + REST;
        let failed = items.into_iter().map(|item| Failed {
            item,
            due,
            rest: 2 * REST,
        });
        self.state().failed.extend(failed);
        self.changed.notify_all();
    }

    /// Ends a try. What has failed again is tried again later.
    pub(crate) fn tried(&self, failed: Option<Failed<T>>) {
        let mut state = self.state();
        state.tries = state.tries.saturating_sub(1);
        state.failed.extend(failed.map(|failed| Failed {
            due: Instant::now() + failed.rest,
            rest: (2 * failed.rest).min(MOST_REST),
            ..failed
        }));
        drop(state);
        self.changed.notify_all();
    }

    /// The next items that are `wanted`; `None` at the end. Waits for them.
    pub(crate) fn next(&self, wanted: impl Fn(&T) -> bool) -> Option<Next<T>> {
        self.look();
        let mut state = self.state();
        loop {
            if self.ends.load(Relaxed) {
                return None;
            }
            state.fresh.retain(&wanted);
            state.failed.retain(|failed| wanted(&failed.item));
            if !state.fresh.is_empty() {
                let most = state.fresh.len().min(TOGETHER);
                let some = state.fresh.drain(..most).collect();
                if !state.fresh.is_empty() {
                    // Who put the others there may have relied on this thread.
                    self.changed.notify_one();
                }
                return Some(Next::Fresh(some));
            }
            let may_try = state.tries < self.most_tries;
            let first = (0..)
                .zip(&state.failed)
                .min_by_key(|(_, failed)| failed.due);
            let first = first
                .map(|(nth, failed)| (nth, failed.due))
                .filter(|_| may_try);
            let now = Instant::now();
            state = match first {
                Some((nth, due)) if due <= now => {
                    state.tries += 1;
                    return Some(Next::Again(state.failed.swap_remove(nth)));
                }
                Some((_, due)) => {
                    let waited = self.changed.wait_timeout(state, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// Looks whether there is something to do for a moment, unless somebody else does.
    fn look(&self) {
        if self.is_looked_at.swap(true, SeqCst) {
            return;
        }
        let is_idle = || !self.ends.load(Relaxed) && self.state().fresh.is_empty();
        let begin = Instant::now();
        while is_idle() && begin.elapsed() < LOOK_FIRST {
            thread::yield_now();
        }
        self.is_looked_at.store(false, SeqCst);
    }

    /// Has all threads that wait here, or come, go.
    pub(crate) fn end(&self) {
        let state = self.state();
        self.ends.store(true, Relaxed);
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(queue: &Queue<u32>) -> Vec<u32> {
        match queue.next(|item| *item != 0) {
            Some(Next::Fresh(items)) => items,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_wanted_is_taken_together() {
        let queue = Queue::for_threads(4);
        (0..20).for_each(|item| queue.push(item));
        assert_eq!(fresh(&queue), (1..=16).collect::<Vec<_>>());
        assert_eq!(fresh(&queue), (17..20).collect::<Vec<_>>());
    }

    #[test]
    fn what_has_failed_comes_alone_and_last_and_never_has_all_threads() {
        let queue = Queue::for_threads(2);
        queue.failed(vec![1, 2]);
        queue.push(3);
        assert_eq!(fresh(&queue), [3]);
        let Some(Next::Again(failed)) = queue.next(|_| true) else {
            panic!("nothing is tried again");
        };
        // The other thread waits for something else, though it is due.
        thread::scope(|scope| {
            let other = scope.spawn(|| fresh(&queue));
            thread::sleep(2 * REST);
            queue.push(4);
            assert_eq!(other.join().unwrap(), [4]);
        });
        let rest = failed.rest;
        queue.tried(Some(failed));
        // Each in its turn, and later each time.
        let mut seen = Vec::new();
        for _ in 0..2 {
            let Some(Next::Again(failed)) = queue.next(|_| true) else {
                panic!("nothing is tried again");
            };
            seen.push(failed.item);
            assert!(failed.rest <= 2 * rest);
            queue.tried(None);
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    }

    #[test]
    fn the_end_wakes_threads_that_have_nothing_to_do() {
        let queue = Queue::<u32>::for_threads(2);
        thread::scope(|scope| {
            let idle = scope.spawn(|| queue.next(|_| true).is_none());
            queue.end();
            assert!(idle.join().unwrap());
        });
    }
}
