// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Threads for queues that have work. A queue that was idle for a while gives its thread back:
//! then one thread, the [`watcher`], waits for the kicks of all such queues, and the next
//! kick starts a thread again.
//!
//! No kick is lost, and none is taken twice: a kick stays in its eventfd until the queue's
//! own thread reads it, right before it looks at the ring. The watcher only sees that it is there.
//! Queues that share an eventfd take kicks from each other: one kick is for whichever thread reads
//! it first, and who knows of the others tells them ([`Attendant::due`]).
//! The watcher also starts all threads: who talks with a front end need not be able to.
//! Whether there is a thread, and what it waits for, changes under one lock; a queue is given to the watcher
//! under that lock, too, and a kick that has come by then is seen at once.

#[cfg(test)]
mod tests;
mod watcher;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Builder;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use watcher::Called;
pub(crate) use watcher::{Kick, Watcher};

/// How long a thread waits for the next kick: long beside what it takes to start another.
const IDLE: Duration = Duration::from_secs(5);

/// How long to wait after the system refused something.
const BACK_OFF: Duration = Duration::from_millis(10);

/// What a thread is there for.
pub(crate) trait Work: Send + Sync + 'static {
    /// Its name, for the threads.
    fn name(&self) -> String;

    /// What becomes readable when there is something to do; `None`: nothing may be done now.
    /// Asked again after [`Attendant::changed`].
    fn kick(&self) -> Option<Arc<Kick>>;

    /// What else does, always.
    fn raised(&self) -> Option<&Kick>;

    /// Takes what has become readable, and then does what there is to do; `false` if there
    /// will never be anything again.
    fn work(&self, ready: Ready) -> bool;
}

/// What has become readable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready {
    /// [`Work::kick`].
    pub(crate) kick: bool,
    /// [`Work::raised`].
    pub(crate) raised: bool,
}

/// Begins a thread with a name.
type Spawn = fn(String, Box<dyn FnOnce() + Send>) -> io::Result<()>;

/// Has work done by a thread, when there is some. Ended when it is dropped by who has made it.
pub(crate) struct Attendant<W: Work> {
    work: W,
    idle: Duration,
    spawn: Spawn,
    watcher: &'static Watcher,
    id: u64,
    /// Readable when the thread is to look at the state.
    wake: OwnedFd,
    state: Mutex<State>,
    is_free: Condvar,
}

#[derive(Default)]
struct State {
    /// A thread is at work, or is just being started.
    is_busy: bool,
    /// There may be something to do without a kick.
    is_due: bool,
    /// Nothing is to be done any more.
    is_over: bool,
    kick: Option<Arc<Kick>>,
}

impl<W: Work> Attendant<W> {
    /// Waits for the kicks of `work`.
    ///
    /// # Errors
    /// When the system has no file descriptor or thread to give.
    pub(crate) fn new(work: W) -> io::Result<Arc<Self>> {
        let spawn =
            |name, body: Box<dyn FnOnce() + Send>| Builder::new().name(name).spawn(body).map(drop);
        Self::with(work, IDLE, spawn)
    }

    fn with(work: W, idle: Duration, spawn: Spawn) -> io::Result<Arc<Self>> {
        let watcher = Watcher::of_process()?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let new = Arc::new_cyclic(|me: &Weak<Self>| Self {
            id: watcher.enter(me.clone()),
            work,
            idle,
            spawn,
            watcher,
            wake,
            state: Mutex::default(),
            is_free: Condvar::new(),
        });
        // Nobody has a thread yet.
        if let Some(raised) = new.work.raised() {
            let armed = watcher.arm(raised.as_fd(), new.id);
            armed.inspect_err(|_| watcher.leave(new.id))?;
        }
        new.changed();
        Ok(new)
    }

    /// What is to be waited for may be something else now; if so, there may be something to
    /// do.
    pub(crate) fn changed(&self) {
        let kick = self.work.kick();
        let before;
        let begins = {
            let mut state = self.lock();
            let is_same = match (&kick, &state.kick) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (None, None) => true,
                _ => false,
            };
            if state.is_over || is_same {
                return;
            }
            state.is_due |= kick.is_some();
            before = std::mem::replace(&mut state.kick, kick);
            if state.is_busy {
                self.wake();
            } else if let Some(before) = &before {
                self.watcher.disarm(before.as_fd());
            }
            state.is_due && !state.is_busy
        };
        drop(before);
        if begins {
            self.watcher.call_now(self.id);
        }
    }

    /// There may be something to do without a kick.
    pub(crate) fn due(&self) {
        let is_busy = {
            let mut state = self.lock();
            if state.is_over || state.kick.is_none() {
                return;
            }
            state.is_due = true;
            if state.is_busy {
                self.wake();
            }
            state.is_busy
        };
        if !is_busy {
            self.watcher.call_now(self.id);
        }
    }

    /// Ends the thread, if there is one, and begins no other. What the thread does is to
    /// end by itself.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        self.wake();
        while state.is_busy {
            let woken = self.is_free.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        let kick = state.kick.take();
        drop(state);
        drop(kick);
        self.watcher.leave(self.id);
        if let Some(raised) = self.work.raised() {
            self.watcher.disarm(raised.as_fd());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only if it is readable already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// The thread; whether it has left the rest to the watcher.
    fn attend(&self) -> bool {
        loop {
            let (kick, is_due) = {
                let mut state = self.lock();
                if state.is_over {
                    return false;
                }
                (state.kick.clone(), std::mem::take(&mut state.is_due))
            };
            let ready = match is_due {
                true => Some(Ready::default()),
                false => self.wait(kick.as_deref()),
            };
            match ready {
                None if self.retire(kick.as_ref()) => return true,
                None => {}
                Some(ready) => {
                    // Both are not ready if it is to look at the state.
                    let is_work = is_due || ready.kick || ready.raised;
                    if is_work && !self.work.work(ready) {
                        self.lock().is_over = true;
                        return false;
                    }
                }
            }
        }
    }

    /// Waits until something is ready; `None` if nothing was for a while.
    fn wait(&self, kick: Option<&Kick>) -> Option<Ready> {
        let raised = self.work.raised();
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend(kick.map(|kick| PollFd::new(kick, PollFlags::IN)));
        fds.extend(raised.map(|raised| PollFd::new(raised, PollFlags::IN)));
        let idle = Timespec::try_from(self.idle).ok();
        match poll(&mut fds, idle.as_ref()) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(Errno::INTR) => return Some(Ready::default()),
            Err(error) => {
                log::error!("cannot wait for kicks: {error}");
                std::thread::sleep(BACK_OFF);
                return Some(Ready::default());
            }
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        if ready.next() == Some(true) {
            // Fails only if it was read already.
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
        Some(Ready {
            kick: kick.is_some() && ready.next() == Some(true),
            raised: raised.is_some() && ready.next() == Some(true),
        })
    }

    /// Leaves the rest to the watcher, if `kick` is still what is to be waited for.
    fn retire(&self, kick: Option<&Arc<Kick>>) -> bool {
        let mut state = self.lock();
        let is_same = match (kick, &state.kick) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        if state.is_over || state.is_due || !is_same {
            return false;
        }
        let mut waits = kick
            .map(|kick| &**kick)
            .into_iter()
            .chain(self.work.raised());
        let armed = waits.try_for_each(|file| self.watcher.arm(file.as_fd(), self.id));
        if armed.is_err() {
            // Out of memory: it stays.
            return false;
        }
        // Before the lock is free: another thread may begin then.
        state.is_busy = false;
        self.is_free.notify_all();
        true
    }
}

impl<W: Work> Called for Attendant<W> {
    fn begin(self: Arc<Self>) -> bool {
        {
            let mut state = self.lock();
            if state.is_over || state.is_busy {
                return true;
            }
            state.is_busy = true;
            // Another queue may have the same kick, and take it first.
            state.is_due = true;
        }
        let name = self.work.name();
        let mut free = Free {
            attendant: self.clone(),
            has_left: false,
        };
        let body = move || free.has_left = free.attendant.attend();
        let spawned = (self.spawn)(name, Box::new(body));
        spawned.is_ok()
    }
}

/// Says that there is no thread any more, however it has ended or if it never began.
struct Free<W: Work> {
    attendant: Arc<Attendant<W>>,
    /// It was said already: there may be another by now.
    has_left: bool,
}

impl<W: Work> Drop for Free<W> {
    fn drop(&mut self) {
        if self.has_left {
            return;
        }
        let mut state = self.attendant.lock();
        // Nobody goes on with what a thread has left in the middle.
        state.is_over |= std::thread::panicking();
        state.is_busy = false;
        self.attendant.is_free.notify_all();
    }
}
