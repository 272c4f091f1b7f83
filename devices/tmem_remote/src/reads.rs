// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reads, and the threads that do them for others.

use crate::link::{Failure, Link, Range};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tmem_store::Reading;

/// How often who waits for a read looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

/// How long who waits for an answer, and one thread that waits for reads, look before they sleep: to be
/// woken takes as long as a round trip on a fast network. Whoever has something to do goes first.
const LOOK_FIRST: Duration = Duration::from_micros(60);

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
    /// There is an answer.
    is_answered: AtomicBool,
    /// Nobody waits any more.
    is_abandoned: AtomicBool,
    /// It is not to be done together with others, which may be on a node that answers.
    is_alone: AtomicBool,
}

/// Reads that are done together.
const TOGETHER: usize = 16;

/// Reads that are to be done.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    queue: Mutex<VecDeque<Arc<Read>>>,
    queued: Condvar,
    /// A thread looks at the queue, and need not be woken.
    is_looked_at: AtomicBool,
    ends: AtomicBool,
}

impl Reads {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Arc<Read>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a thread read `len` bytes of a value from `offset` on, for who waits for `most`.
    pub(crate) fn begin(&self, key: String, offset: usize, len: usize, most: Duration) -> Begun {
        let read = Arc::new(Read {
            key,
            offset,
            len,
            answer: Mutex::default(),
            answered: Condvar::new(),
            is_answered: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
            is_alone: AtomicBool::new(false),
        });
        self.queue().push_back(read.clone());
        // Who stops to look does so before it looks for the last time.
        if !self.is_looked_at.load(SeqCst) {
            self.queued.notify_one();
        }
        Begun { read, most }
    }

    /// Does reads until they end. `failed` is told what goes wrong.
    pub(crate) fn work(&self, link: &mut Link, failed: impl Fn(&Failure)) {
        let mut rest = REST;
        while let Some(reads) = self.next() {
            let ranges: Vec<Range<'_>> = reads.iter().map(|read| read.range()).collect();
            match link.get(&ranges) {
                Ok(found) => {
                    rest = REST;
                    for (read, found) in reads.iter().zip(found) {
                        read.answer(found.ok_or_else(|| ErrorKind::NotFound.into()));
                    }
                }
                Err(failure) => {
                    failed(&failure);
                    for read in &reads {
                        read.is_alone.store(true, Relaxed);
                    }
                    // Others come first: theirs may be on a node that answers.
                    self.queue().extend(reads);
                    self.queued.notify_all();
                    self.pause(rest);
                    rest = (2 * rest).min(MOST_REST);
                }
            }
        }
    }

    /// The next reads that somebody waits for; `None` at the end.
    fn next(&self) -> Option<Vec<Arc<Read>>> {
        self.look();
        let mut queue = self.queue();
        loop {
            if self.ends.load(Relaxed) {
                return None;
            }
            queue.retain(|read| !read.is_abandoned.load(Relaxed));
            let alone = |read: &Arc<Read>| read.is_alone.load(Relaxed);
            let most = match queue.front() {
                Some(first) if alone(first) => 1,
                Some(_) => queue
                    .iter()
                    .take(TOGETHER)
                    .take_while(|it| !alone(it))
                    .count(),
                None => {
                    let queued = self.queued.wait(queue);
                    queue = queued.unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            let some = queue.drain(..most).collect();
            if !queue.is_empty() {
                // Who put the others there may have relied on this thread.
                self.queued.notify_one();
            }
            return Some(some);
        }
    }

    /// Looks whether there is something to do for a moment, unless somebody else does.
    fn look(&self) {
        if self.is_looked_at.swap(true, SeqCst) {
            return;
        }
        let is_idle = || !self.ends.load(Relaxed) && self.queue().is_empty();
        let begin = Instant::now();
        while is_idle() && begin.elapsed() < LOOK_FIRST {
            thread::yield_now();
        }
        self.is_looked_at.store(false, SeqCst);
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

/// A read that somebody wants.
#[derive(Debug)]
pub(crate) struct Begun {
    read: Arc<Read>,
    most: Duration,
}

impl Begun {
    /// Waits for the answer, for as long as `go_on` says so.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] if `go_on` stopped it, [`ErrorKind::TimedOut`], or
    /// [`ErrorKind::NotFound`] if the cluster does not have so many bytes.
    pub(crate) fn wait(self, bytes: &mut [u8], go_on: &mut dyn FnMut() -> bool) -> io::Result<()> {
        let (read, begin) = (&self.read, Instant::now());
        while !read.is_answered.load(Relaxed) && begin.elapsed() < LOOK_FIRST {
            thread::yield_now();
        }
        let mut answer = read.answer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = answer.take() {
                let found = answer?;
                let wrong = io::Error::from(ErrorKind::InvalidInput);
                let whole = (found.len() == bytes.len()).then_some(()).ok_or(wrong);
                return whole.map(|()| bytes.copy_from_slice(&found));
            }
            let waited = read.answered.wait_timeout(answer, LOOK);
            answer = waited.unwrap_or_else(PoisonError::into_inner).0;
            if answer.is_none() {
                if !go_on() {
                    return Err(ErrorKind::Interrupted.into());
                }
                if begin.elapsed() >= self.most {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.read.is_abandoned.store(true, Relaxed);
    }
}

impl Reading for Begun {
    fn finish(
        self: Box<Self>,
        bytes: &mut [u8],
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        self.wait(bytes, go_on)
    }
}

impl Read {
    fn range(&self) -> Range<'_> {
        Range {
            key: &self.key,
            offset: self.offset,
            len: self.len,
        }
    }

    fn answer(&self, answer: io::Result<Vec<u8>>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.is_answered.store(true, Relaxed);
        self.answered.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reads: &Reads, most: Duration, go_on: &mut dyn FnMut() -> bool) -> io::Result<()> {
        reads
            .begin("key".into(), 0, 8, most)
            .wait(&mut [0; 8], go_on)
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
        assert!(
            reads
                .queue()
                .iter()
                .all(|read| read.is_abandoned.load(Relaxed))
        );
    }

    #[test]
    fn reads_that_somebody_wants_are_done_together_unless_one_has_failed() {
        let reads = Reads::default();
        let begin = |key: &str| reads.begin(key.into(), 0, 8, Duration::MAX);
        drop(begin("unwanted"));
        let _wanted = ["one", "two", "three"].map(begin);
        let keys =
            |some: Vec<Arc<Read>>| some.iter().map(|read| read.key.clone()).collect::<Vec<_>>();
        let together = reads.next().unwrap();
        together[1].is_alone.store(true, Relaxed);
        assert_eq!(keys(together.clone()), ["one", "two", "three"]);
        reads.queue().extend(together);
        for expected in ["one", "two", "three"] {
            assert_eq!(keys(reads.next().unwrap()), [expected]);
        }
    }

    #[test]
    fn the_end_wakes_threads_that_have_nothing_to_do() {
        let reads = Reads::default();
        thread::scope(|scope| {
            let idle = scope.spawn(|| reads.next().is_none());
            reads.end();
            assert!(idle.join().unwrap());
        });
    }
}
