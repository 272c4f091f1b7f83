// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How the daemon ends: every thread hears of it, whatever it waits for.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use vhost_user_backend::ShutdownHandle;

/// A request to stop, made once.
#[derive(Debug)]
pub struct Stop {
    asked: AtomicBool,
    /// Nobody goes on with what is stopped.
    for_good: AtomicBool,
    /// Becomes readable and stays so.
    event: OwnedFd,
    connections: Connections,
}

/// Connections to be ended, by a number of their own.
#[derive(Default)]
struct Connections(Mutex<BTreeMap<u64, ShutdownHandle>>);

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connections")
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, ShutdownHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stop {
    /// Not asked for yet.
    ///
    /// # Errors
    /// When the system is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            asked: AtomicBool::new(false),
            for_good: AtomicBool::new(false),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            connections: Connections::default(),
        })
    }

    /// Asks all threads to stop.
    pub fn ask(&self) {
        self.asked.store(true, SeqCst);
        // Fails only if it is readable already.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        for handle in self.connections.lock().values() {
            handle.shutdown();
        }
    }

    /// Asks all threads to stop, and the next daemon does not go on with it.
    pub fn ask_for_good(&self) {
        self.for_good.store(true, SeqCst);
        self.ask();
    }

    /// Whether the next daemon does not go on.
    pub fn is_for_good(&self) -> bool {
        self.for_good.load(SeqCst)
    }

    /// Whether the daemon stops.
    pub fn is_asked(&self) -> bool {
        self.asked.load(SeqCst)
    }

    /// Waits for `time`, or until the daemon stops.
    pub fn wait(&self, time: Duration) {
        let mut fds = [PollFd::new(self, PollFlags::IN)];
        let time = Timespec::try_from(time).unwrap_or_default();
        // However it ends, the caller looks at `is_asked`.
        let _ = poll(&mut fds, Some(&time));
    }

    /// Runs `during` while the connection behind `handle` ends when the daemon
    /// stops.
    pub fn guard<T>(
        &self,
        id: u64,
        handle: Option<ShutdownHandle>,
        during: impl FnOnce() -> T,
    ) -> T {
        if let Some(handle) = handle {
            self.connections.lock().insert(id, handle.clone());
            if self.is_asked() {
                handle.shutdown();
            }
        }
        let outcome = during();
        self.connections.lock().remove(&id);
        outcome
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
