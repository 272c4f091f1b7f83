// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Answers on their way to the front end: whether one was sent can be seen afterwards.
//!
//! An answer is written to a pipe that outlives the daemon, and from there moved to the
//! front end's socket by one splice(2), which a signal does not take apart. So it is in
//! the pipe, or with the front end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

/// A pipe for one answer at a time.
#[derive(Debug)]
pub(super) struct Outbox {
    read: OwnedFd,
    write: OwnedFd,
}

impl Outbox {
    pub(super) fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { read, write })
    }

    /// The one of an earlier daemon.
    pub(super) fn left(read: OwnedFd, write: OwnedFd) -> Self {
        Self { read, write }
    }

    /// Both ends, to be kept.
    pub(super) fn ends(&self) -> io::Result<[OwnedFd; 2]> {
        Ok([self.read.try_clone()?, self.write.try_clone()?])
    }

    /// Whether an answer is there.
    pub(super) fn is_full(&self) -> bool {
        rustix::io::ioctl_fionread(&self.read).is_ok_and(|bytes| bytes > 0)
    }

    /// Puts an answer there: as a whole, since it is shorter than PIPE_BUF.
    pub(super) fn put(&self, bytes: &[u8]) -> io::Result<()> {
        let written = retry_on_intr(|| rustix::io::write(&self.write, bytes))?;
        if written == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Sends the answer that is there, if it is taken at once; whether it is with the front
    /// end now. `to` does not block: splice(2) asks the file, not the call.
    pub(super) fn send(&self, to: &UnixStream) -> io::Result<bool> {
        while self.is_full() {
            /// More than an answer has.
            const MOST: usize = 1 << 16;
            match splice(
                self.read.as_fd(),
                None,
                to.as_fd(),
                None,
                MOST,
                SpliceFlags::NONBLOCK,
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}
