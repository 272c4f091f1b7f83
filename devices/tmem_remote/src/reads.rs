// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reads, and the threads that do them for others.

use crate::link::{Failure, Link, Range};
use crate::queue::{LOOK_FIRST, Next, Queue};
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tmem_store::Reading;

/// How often who waits for a read looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

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
}

/// Reads that are to be done.
#[derive(Debug)]
pub(crate) struct Reads(Queue<Arc<Read>>);

impl Reads {
    /// Those of so many threads.
    pub(crate) fn for_threads(threads: usize) -> Self {
        Self(Queue::for_threads(threads))
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
        });
        self.0.push(read.clone());
        let since = Instant::now();
        Begun { read, since, most }
    }

    /// Does reads until they end. `failed` is told what goes wrong.
    pub(crate) fn work(&self, link: &mut Link, failed: impl Fn(&Failure)) {
        let is_wanted = |read: &Arc<Read>| !read.is_abandoned.load(Relaxed);
        let mut done = |reads: &[Arc<Read>]| {
            let ranges: Vec<Range<'_>> = reads.iter().map(|read| read.range()).collect();
            let found = link.get(&ranges).inspect_err(&failed).ok()?;
            for (read, found) in reads.iter().zip(found) {
                read.answer(found.ok_or_else(|| ErrorKind::NotFound.into()));
            }
            Some(())
        };
        while let Some(next) = self.0.next(is_wanted) {
            match next {
                Next::Fresh(reads) => {
                    // One of them may be on a node that is gone: then each by itself.
                    if done(&reads).is_none() {
                        self.0.failed(reads);
                    }
                }
                Next::Again(read) => {
                    let is_done = done(std::slice::from_ref(&read.item)).is_some();
                    self.0.tried((!is_done).then_some(read));
                }
            }
        }
    }

    /// Has [`Reads::work`] return. Who waits is left to its patience.
    pub(crate) fn end(&self) {
        self.0.end();
    }
}

/// A read that somebody wants.
#[derive(Debug)]
pub(crate) struct Begun {
    read: Arc<Read>,
    /// Pages of one request are begun together, and wait one after the other: all of them for as long as
    /// one of them may.
    since: Instant,
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
                if self.since.elapsed() >= self.most {
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
        let reads = Reads::for_threads(1);
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
        let _wanted = reads.begin("wanted".into(), 0, 8, Duration::MAX);
        let next = reads.0.next(|read| !read.is_abandoned.load(Relaxed));
        let Some(Next::Fresh(fresh)) = next else {
            panic!("{next:?}");
        };
        assert_eq!(
            fresh.iter().map(|read| &*read.key).collect::<Vec<_>>(),
            ["wanted"]
        );
    }
}
