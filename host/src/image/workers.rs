// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Threads for what takes long, so that who answers at a control socket does not wait for it.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::http::{Answer, Request, Response};

/// What a thread begins with, and does.
type Task = (fn(), Box<dyn FnOnce() + Send>);

/// Threads that save, restore and remove, one machine each. They are there only while they have something to
/// do; one more makes them.
pub struct Workers {
    threads: Arc<Threads>,
    most: usize,
    /// Threads that have something to do, or are promised.
    taken: Arc<AtomicUsize>,
    /// Those that remove a machine.
    removing: Arc<AtomicUsize>,
}

struct Threads {
    /// None once this has ended.
    running: Mutex<Option<Running>>,
    is_over: Arc<AtomicBool>,
    begin: Begin,
}

struct Running {
    tasks: Sender<Task>,
    starter: JoinHandle<()>,
}

/// What threads begin with.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    /// The one that makes the others.
    pub starter: fn(),
    /// Each of those that save and restore.
    pub worker: fn(),
    /// Each of those that remove.
    pub remover: fn(),
}

impl Debug for Workers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Workers {
    /// Has `most` threads at a time.
    ///
    /// # Errors
    /// When the system has no thread.
    pub fn start(most: usize, begin: Begin) -> io::Result<Self> {
        // As many as can be taken.
        let (tasks, all) = channel::<Task>();
        let starter = Builder::new().name("images".into()).spawn(move || {
            (begin.starter)();
            let mut threads = Vec::<JoinHandle<()>>::new();
            for (begin, task) in all {
                threads.retain(|thread| !thread.is_finished());
                let thread = Builder::new().name("image".into()).spawn(move || {
                    begin();
                    task();
                });
                match thread {
                    Ok(thread) => threads.push(thread),
                    Err(error) => log::warn!("cannot start a thread: {error}"),
                }
            }
            for thread in threads {
                // A panic was reported when it happened.
                let _ = thread.join();
            }
        })?;
        let threads = Threads {
            running: Mutex::new(Some(Running { tasks, starter })),
            is_over: Arc::default(),
            begin,
        };
        Ok(Self {
            threads: Arc::new(threads),
            most,
            taken: Arc::default(),
            removing: Arc::default(),
        })
    }

    /// As many threads for somebody else, whose tasks do not take any of these. They end together.
    pub fn apart(&self) -> Self {
        Self {
            threads: self.threads.clone(),
            most: self.most,
            taken: Arc::default(),
            removing: Arc::default(),
        }
    }

    /// Has one of the threads answer, if one is free; it is told by a flag when that is to end.
    pub(crate) fn answer(
        &self,
        answer: impl FnOnce(OwnedFd, Request, &AtomicBool) + Send + 'static,
    ) -> Answer {
        match self.free() {
            Some(free) => free.answer(answer),
            None => Response::error(503, BUSY).into(),
        }
    }

    /// A thread that removes a machine: as many as others, and none of theirs, for what those do may be
    /// what is to end.
    ///
    /// # Errors
    /// The answer, when none is free.
    pub(crate) fn for_removal(&self) -> Result<Free, Response> {
        let begin = self.threads.begin.remover;
        let free = self.free_of(&self.removing, begin);
        free.ok_or_else(|| Response::error(503, REMOVING))
    }

    /// Has one of the threads do something; it is told by a flag when that is to end.
    ///
    /// # Errors
    /// A sentence, when none is free.
    pub fn begin(
        &self,
        task: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> Result<(), &'static str> {
        self.free().ok_or(BUSY)?.begin(task);
        Ok(())
    }

    fn free(&self) -> Option<Free> {
        self.free_of(&self.taken, self.threads.begin.worker)
    }

    fn free_of(&self, taken: &Arc<AtomicUsize>, begin: fn()) -> Option<Free> {
        let tasks = self.threads.lock().as_ref()?.tasks.clone();
        Some(Free {
            tasks,
            begin,
            taken: self.take(taken)?,
            is_over: self.threads.is_over.clone(),
        })
    }

    /// Has all of them end soon, and waits for that.
    pub fn end(&self) {
        self.threads.end();
    }

    fn take(&self, taken: &Arc<AtomicUsize>) -> Option<Taken> {
        let most = self.most;
        let more = |taken: usize| (taken < most).then_some(taken + 1);
        let before = taken.fetch_update(SeqCst, SeqCst, more);
        before.ok().map(|_| Taken(taken.clone()))
    }
}

impl Threads {
    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.is_over.store(true, SeqCst);
        // By itself: nobody waits for the lock meanwhile.
        let running = self.lock().take();
        if let Some(Running { tasks, starter }) = running {
            drop(tasks);
            // A panic was reported when it happened.
            let _ = starter.join();
        }
    }
}

/// What is said when none of them is free.
const BUSY: &str =
    "other virtual machines are being saved or restored; try again when that is done";

/// What is said when none of them is free for a removal.
const REMOVING: &str = "other virtual machines are being removed; try again when that is done";

/// A thread that is free for a task.
pub(crate) struct Free {
    tasks: Sender<Task>,
    begin: fn(),
    taken: Taken,
    is_over: Arc<AtomicBool>,
}

impl Free {
    /// Has it answer; it is told by a flag when that is to end.
    pub(crate) fn answer(
        self,
        answer: impl FnOnce(OwnedFd, Request, &AtomicBool) + Send + 'static,
    ) -> Answer {
        Answer::Stream(Box::new(move |stream, request| {
            self.begin(move |is_over| answer(stream, request, is_over));
        }))
    }

    fn begin(self, task: impl FnOnce(&AtomicBool) + Send + 'static) {
        let Self {
            tasks,
            begin,
            taken,
            is_over,
        } = self;
        let task = move || {
            let _taken = taken;
            task(&is_over);
        };
        // Nobody waits at the end.
        let _ = tasks.send((begin, Box::new(task)));
    }
}

/// A thread that is promised, until this is dropped.
struct Taken(Arc<AtomicUsize>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;

    #[test]
    fn who_comes_when_all_have_something_to_do_is_told_so() {
        let begin = Begin {
            starter: || (),
            worker: || (),
            remover: || (),
        };
        let workers = Workers::start(2, begin).unwrap();
        let (end, ends) = channel::<()>();
        let ends = Arc::new(Mutex::new(ends));
        let (done, dones) = channel();
        let answer = || {
            let (ends, done) = (ends.clone(), done.clone());
            workers.answer(move |_, _, _| {
                let _ = ends.lock().unwrap().recv();
                done.send(()).unwrap();
            })
        };
        let begin = |answer: Answer| match answer {
            Answer::Stream(take_over) => {
                let (stream, _) = UnixStream::pair().unwrap();
                take_over(stream.into(), Request::default());
                true
            }
            Answer::Said(response) => {
                assert_eq!(response.status, 503);
                false
            }
        };
        assert!(begin(answer()) && begin(answer()));
        assert!(!begin(answer()));
        // Whoever is removed may be what they are busy with.
        let removals = [workers.for_removal(), workers.for_removal()];
        assert!(removals.iter().all(Result::is_ok));
        assert!(workers.for_removal().is_err_and(|said| said.status == 503));
        drop(removals);
        let (apart, others) = (workers.apart(), channel::<()>());
        for is_free in [true, true, false] {
            let sender = others.0.clone();
            let begun = apart.begin(move |_| sender.send(()).unwrap());
            assert!(begun.is_ok() || !is_free);
        }
        assert!(others.1.recv().is_ok() && others.1.recv().is_ok());
        end.send(()).unwrap();
        dones.recv().unwrap();
        // The thread is free a moment after it has said so.
        while !begin(answer()) {
            std::thread::yield_now();
        }
        drop(end);
    }
}
