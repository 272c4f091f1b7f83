// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How the daemon ends: every thread hears of it, whatever it waits for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// A request to stop, made once.
#[derive(Debug)]
pub struct Stop {
    asked: AtomicBool,
    /// Nobody goes on with what is stopped.
    for_good: AtomicBool,
    /// Becomes readable and stays so.
    event: OwnedFd,
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
        })
    }

    /// Asks all threads to stop.
    pub fn ask(&self) {
        self.asked.store(true, SeqCst);
        // Fails only if it is readable already.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
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
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
