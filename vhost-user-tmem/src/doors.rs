// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One thread waits for the front ends of all virtual machines: for those that come, for what
//! those say that are connected, and for the ends of grace periods. It takes nothing itself, so
//! that nobody can hold it up. A machine has a thread of its own only while there is something to
//! do for it.

mod served;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::attendant::Watcher;
use crate::confine::{self, Role};
use crate::entry::Entry;
use crate::vhost_user::Watched;
use crate::vm::Vm;
pub use served::Served;
use served::Task;

/// How long to wait after the system refused something, for example because the daemon is
/// out of file descriptors.
const BACK_OFF: Duration = Duration::from_secs(1);

/// The entries of all machines.
#[derive(Debug)]
pub struct Doors {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    all: Mutex<All>,
    /// Readable when something else is to be waited for.
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct All {
    served: Vec<Arc<Served>>,
    is_over: bool,
}

impl Doors {
    /// Begins to wait; for nobody yet.
    ///
    /// # Errors
    /// When the system has no event or thread.
    pub fn start() -> Result<Self> {
        // It starts threads; this one may.
        Watcher::of_process().context("cannot start a thread")?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            all: Mutex::default(),
            wake: wake.context("cannot make an event")?,
        });
        let waiting = shared.clone();
        let thread = Builder::new().name("doors".into());
        let thread = thread.spawn(move || {
            confine::enter(Role::Doors);
            wait(&waiting);
        });
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread.context("cannot start a thread")?)),
        })
    }

    /// Serves the front ends of `vm` that come to `entry`.
    ///
    /// # Errors
    /// When the system has no event.
    pub fn serve(&self, vm: Arc<Vm>, entry: Entry) -> Result<Arc<Served>> {
        let served = Served::new(vm, entry, Arc::downgrade(&self.shared));
        let served = Arc::new(served.context("cannot make an event")?);
        let mut all = self.shared.lock();
        if all.is_over {
            drop(all);
            served.stop();
            return Ok(served);
        }
        all.served.push(served.clone());
        drop(all);
        self.shared.wake();
        Ok(served)
    }

    /// Ends all connections, and waits for nobody any more. Machines keep their pools.
    pub fn end(&self) {
        let served = {
            let mut all = self.shared.lock();
            all.is_over = true;
            all.served.clone()
        };
        for served in &served {
            served.stop();
            // Before any is waited for: one that reads from a disk may be long about it.
            served.close();
        }
        for served in &served {
            served.wait();
        }
        self.shared.wake();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only if it is readable already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Does not wait for `served` any more.
    fn forget(&self, served: &Served) {
        let mut all = self.lock();
        all.served
            .retain(|other| !std::ptr::eq(&raw const **other, served));
        drop(all);
        self.wake();
    }
}

/// A machine for which nothing is being done.
struct Idle {
    served: Arc<Served>,
    /// If a front end is connected.
    watched: Option<Watched>,
}

/// Waits for front ends and begins what they are there for, until it is over.
fn wait(shared: &Shared) {
    loop {
        let mut all = shared.lock();
        if all.is_over {
            all.served.retain(|served| !served.is_over());
            if all.served.is_empty() {
                return;
            }
        }
        let now = Instant::now();
        let mut idle = Vec::new();
        let mut pause = None;
        for served in &all.served {
            match served.idle_from() {
                Some(then) if then <= now => idle.push(served.clone()),
                Some(then) => pause = pause.into_iter().chain([then - now]).min(),
                None => {}
            }
        }
        drop(all);
        // All threads are made here: the one that adds or removes a machine has no use for that.
        idle.retain(|served| {
            let task = if served.is_to_end() {
                Task::Messages
            } else if served.goes_on() {
                Task::GoOn
            } else {
                return true;
            };
            served.begin(task);
            false
        });
        let idle: Vec<_> = idle
            .into_iter()
            .map(|served| Idle {
                watched: served.watched(),
                served,
            })
            .collect();
        let grace = idle.iter().filter_map(|idle| idle.served.vm().keeps_for());
        let timeout = grace.chain(pause).min();
        let Ok(ready) = ready(shared, &idle, timeout) else {
            std::thread::sleep(BACK_OFF);
            continue;
        };
        for (idle, is_ready) in idle.iter().zip(ready) {
            let served = &idle.served;
            if is_ready && idle.watched.is_some() {
                served.begin(Task::Messages);
            } else if is_ready {
                served.begin(Task::FrontEnd);
            } else if served.vm().keeps_for().is_some_and(|left| left.is_zero()) {
                served.begin(Task::Expire);
            }
        }
    }
}

/// For which machines there is something to do, once that is so for some or `timeout` is over.
fn ready(shared: &Shared, idle: &[Idle], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut fds = vec![PollFd::new(&shared.wake, PollFlags::IN)];
    for idle in idle {
        fds.push(PollFd::new(&*idle.served, PollFlags::IN));
        fds.extend(idle.watched.iter().flat_map(Watched::poll_fds));
    }
    // What does not fit never ends.
    let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => {
            log::error!("cannot wait for front ends: {error}");
            return Err(error.into());
        }
    }
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    if ready.next() == Some(true) {
        // Fails only if another wake-up was seen already.
        let _ = rustix::io::read(&shared.wake, &mut [0; 8]);
    }
    let mut are_ready = |idle: &Idle| {
        let files = if idle.watched.is_some() { 3 } else { 1 };
        // All of them, for the next machine.
        let ready = ready.by_ref().take(files);
        ready.fold(false, |any, ready| any | ready)
    };
    Ok(idle.iter().map(&mut are_ready).collect())
}
