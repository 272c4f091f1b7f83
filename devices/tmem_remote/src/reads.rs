// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reads, and the threads that do them for others.

use crate::link::{Failure, Link};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often who waits for a read looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

/// How long a thread rests after a read that failed, at first and at most: a node that is gone is not
/// there again so soon.
const REST: Duration = Duration::from_millis(10);
const MOST_REST: Duration = Duration::from_millis(320);

/// A read that somebody waits for.
#[derive(Debug)]
struct Read {
    key: String,
    offset: usize,
    len: usize,
    answer: Mutex<Option<io::Result<Vec<u8>>>>,
    answered: Condvar,
    /// Nobody waits any more.
    is_abandoned: AtomicBool,
}

/// Reads that are to be done.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    queue: Mutex<VecDeque<Arc<Read>>>,
    queued: Condvar,
    ends: AtomicBool,
}

impl Reads {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Arc<Read>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads `bytes` of a value from `offset` on: waits for a thread to do it, for `most`, and for as
    /// long as `go_on` says so.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] if `go_on` stopped it, [`ErrorKind::TimedOut`], or
    /// [`ErrorKind::NotFound`] if the cluster does not have so many bytes.
    pub(crate) fn read(
        &self,
        key: String,
        offset: usize,
        bytes: &mut [u8],
        most: Duration,
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        let read = Arc::new(Read {
            key,
            offset,
            len: bytes.len(),
            answer: Mutex::default(),
            answered: Condvar::new(),
            is_abandoned: AtomicBool::new(false),
        });
        self.queue().push_back(read.clone());
        self.queued.notify_one();
        let begin = Instant::now();
        let mut answer = read.answer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = answer.take() {
                return answer.map(|found| bytes.copy_from_slice(&found));
            }
            let waited = read.answered.wait_timeout(answer, LOOK);
            answer = waited.unwrap_or_else(PoisonError::into_inner).0;
            if answer.is_none() {
                let why = match (go_on(), begin.elapsed() < most) {
                    (true, true) => continue,
                    (false, _) => ErrorKind::Interrupted,
                    (true, false) => ErrorKind::TimedOut,
                };
                read.is_abandoned.store(true, Relaxed);
                return Err(why.into());
            }
        }
    }

    /// Does reads until they end. `failed` is told what goes wrong.
    pub(crate) fn work(&self, link: &mut Link, failed: impl Fn(&Failure)) {
        let mut rest = REST;
        while let Some(read) = self.next() {
            match link.get(&read.key, read.offset, read.len) {
                Ok(found) => {
                    rest = REST;
                    read.answer(found.ok_or_else(|| ErrorKind::NotFound.into()));
                }
                Err(failure) => {
                    failed(&failure);
                    // Others come first: theirs may be on a node that answers.
                    self.queue().push_back(read);
                    self.pause(rest);
                    rest = (2 * rest).min(MOST_REST);
                }
            }
        }
    }

    /// The next read that somebody waits for; `None` at the end.
    fn next(&self) -> Option<Arc<Read>> {
        let mut queue = self.queue();
        loop {
            if self.ends.load(Relaxed) {
                return None;
            }
            match queue.pop_front() {
                Some(read) if read.is_abandoned.load(Relaxed) => {}
                Some(read) => return Some(read),
                None => {
                    let queued = self.queued.wait(queue);
                    queue = queued.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Waits for `time`, or the end.
    fn pause(&self, time: Duration) {
        let ends = |_: &mut VecDeque<_>| !self.ends.load(Relaxed);
        let _ = self.queued.wait_timeout_while(self.queue(), time, ends);
    }

    /// Has [`Reads::work`] return. Who waits is left to its patience.
    pub(crate) fn end(&self) {
        let queue = self.queue();
        self.ends.store(true, Relaxed);
        drop(queue);
        self.queued.notify_all();
    }
}

impl Read {
    fn answer(&self, answer: io::Result<Vec<u8>>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.answered.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reads: &Reads, most: Duration, go_on: &mut dyn FnMut() -> bool) -> io::Result<()> {
        reads.read("key".into(), 0, &mut [0; 8], most, go_on)
    }

    #[test]
    fn who_waits_for_a_cluster_that_does_not_answer_stops_when_it_is_told_to() {
        let reads = Reads::default();
        let mut asked = 0;
        let stopped = read(&reads, Duration::MAX, &mut || {
            asked += 1;
            asked < 3
        });
        assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(asked, 3);
        let late = read(&reads, Duration::from_millis(20), &mut || true);
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        // Nobody does these any more.
        reads.queue().push_back(Arc::new(Read {
            key: "last".into(),
            offset: 0,
            len: 8,
            answer: Mutex::default(),
            answered: Condvar::new(),
            is_abandoned: AtomicBool::new(false),
        }));
        assert_eq!(reads.next().unwrap().key, "last");
    }

    #[test]
    fn the_end_wakes_threads_that_have_nothing_to_do() {
        let reads = Reads::default();
        std::thread::scope(|scope| {
            let idle = scope.spawn(|| reads.next().is_none());
            reads.end();
            assert!(idle.join().unwrap());
        });
    }
}
