// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files of memory, each used by one process at a time.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, MemfdFlags, Mode, OFlags, SealFlags, flock};
use rustix::io::Errno;

/// How long a process that was killed has until its files are closed.
const GOES_WITHIN: Duration = Duration::from_secs(5);

/// A memfd that never shrinks.
pub(super) fn memory_file(name: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(format!("tmem-{name}"), flags)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK)?;
    Ok(file)
}

/// Opens the file once more, and locks it for as long as that is open. The descriptor that
/// is kept does not hold the lock.
pub(super) fn locked(file: BorrowedFd<'_>) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let own = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("cannot open it")?;
    lock(own.as_fd())?;
    Ok(own)
}

/// Locks a file that this process has opened.
pub(super) fn lock(file: BorrowedFd<'_>) -> Result<()> {
    let deadline = Instant::now() + GOES_WITHIN;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::WOULDBLOCK) => bail!("another process uses it; stop that one first"),
            Err(error) => return Err(error).context("cannot lock it"),
        }
    }
}
