// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One thread waits for everything that has no thread of its own just now.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use crate::confine::{self, Role};

/// How long to wait after the system refused something.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Somebody who is called when there is something to do.
pub(super) trait Called: Send + Sync {
    /// Begins; `false` if that is to be tried again later.
    fn begin(self: Arc<Self>) -> bool;
}

/// Waits for files, and calls whom they are for.
#[derive(Debug)]
pub(crate) struct Watcher {
    epoll: OwnedFd,
    /// Readable when somebody is to be called though no file is readable.
    poke: OwnedFd,
    shared: Mutex<Shared>,
}

/// The event of [`Watcher::poke`]; nobody has this number.
const POKE: u64 = u64::MAX;

#[derive(Default)]
struct Shared {
    next: u64,
    all: BTreeMap<u64, Weak<dyn Called>>,
    /// Who is to be called though no file is readable, and when.
    calls: Vec<(Instant, u64)>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Watcher {
    /// That of this process, which has one once somebody needs it.
    ///
    /// # Errors
    /// When the system has no file descriptor or thread to give.
    pub(crate) fn of_process() -> io::Result<&'static Self> {
        static STARTED: Mutex<Option<&'static Watcher>> = Mutex::new(None);
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = *started {
            return Ok(watcher);
        }
        let watcher = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            poke: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            shared: Mutex::default(),
        };
        let poke = EventData::new_u64(POKE);
        epoll::add(&watcher.epoll, &watcher.poke, poke, EventFlags::IN)?;
        let watcher: &'static Self = Box::leak(Box::new(watcher));
        // If this fails, so much is lost; whoever asks again may have better luck.
        Builder::new().name("idle".into()).spawn(|| {
            confine::enter(Role::Watcher);
            watcher.run();
        })?;
        *started = Some(watcher);
        Ok(watcher)
    }

    /// Calls `who` from now on; the number of `who`.
    pub(super) fn enter(&self, who: Weak<dyn Called>) -> u64 {
        let mut shared = self.lock();
        let id = shared.next;
        shared.next += 1;
        shared.all.insert(id, who);
        id
    }

    /// Does not call it any more.
    pub(super) fn leave(&self, id: u64) {
        self.lock().all.remove(&id);
    }

    /// Calls whom `id` is once `file` is readable, or at once if it is. Once: until this is called
    /// again.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub(super) fn arm(&self, file: BorrowedFd<'_>, id: u64) -> io::Result<()> {
        let (data, flags) = (EventData::new_u64(id), EventFlags::IN | EventFlags::ONESHOT);
        match epoll::modify(&self.epoll, file, data, flags) {
            Err(Errno::NOENT) => Ok(epoll::add(&self.epoll, file, data, flags)?),
            other => Ok(other?),
        }
    }

    /// Does not wait for `file` any more. To be called before it is closed: others may have
    /// it open.
    pub(super) fn disarm(&self, file: BorrowedFd<'_>) {
        // Fails only if it is not waited for.
        let _ = epoll::delete(&self.epoll, file);
    }

    /// Calls whom `id` is, on the watcher's thread.
    pub(super) fn call_now(&self, id: u64) {
        self.call_at(Instant::now(), id);
    }

    fn call_at(&self, when: Instant, id: u64) {
        self.lock().calls.push((when, id));
        // Fails only if it is readable already.
        let _ = rustix::io::write(&self.poke, &1u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let timeout = self.timeout();
            let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    log::error!("cannot wait for kicks: {error}");
                    std::thread::sleep(BACK_OFF);
                }
            }
            for event in &events {
                match event.data.u64() {
                    POKE => {
                        // Fails only if it was read already.
                        let _ = rustix::io::read(&self.poke, &mut [0; 8]);
                    }
                    id => self.call(id),
                }
            }
            for id in self.due() {
                self.call(id);
            }
        }
    }

    fn call(&self, id: u64) {
        // Not held meanwhile.
        let who = self.lock().all.get(&id).and_then(Weak::upgrade);
        if who.is_some_and(|who| !who.begin()) {
            self.call_at(Instant::now() + BACK_OFF, id);
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        let shared = self.lock();
        let calls = shared.calls.iter();
        calls
            .map(|(then, _)| then.saturating_duration_since(now))
            .min()
    }

    /// Who is to be called by now.
    fn due(&self) -> Vec<u64> {
        let now = Instant::now();
        let mut shared = self.lock();
        let due = |(then, _): &(Instant, u64)| *then <= now;
        let ids = shared.calls.iter().filter(|it| due(it));
        let ids = ids.map(|(_, id)| *id).collect();
        shared.calls.retain(|it| !due(it));
        ids
    }
}

/// A file that is waited for, by whoever attends to it or by the watcher.
#[derive(Debug)]
pub(crate) struct Kick {
    file: OwnedFd,
    watcher: &'static Watcher,
}

impl Kick {
    /// One that becomes readable, and is closed by nobody else.
    ///
    /// # Errors
    /// When the watcher cannot be had.
    pub(crate) fn new(file: OwnedFd) -> io::Result<Self> {
        let watcher = Watcher::of_process()?;
        Ok(Self { file, watcher })
    }
}

impl AsFd for Kick {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Kick {
    fn drop(&mut self) {
        self.watcher.disarm(self.file.as_fd());
    }
}
