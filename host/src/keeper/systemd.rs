// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The file descriptor store of the service manager (sd_pid_notify_with_fds(3),
//! `FileDescriptorStoreMax=`).

use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::Keeper;
use super::message;

/// What names of ours begin with, in the manager's store.
pub const PREFIX: &str = "tmem+";

/// How long the manager has to take something over.
const TAKES_WITHIN: Duration = Duration::from_secs(5);

/// The store of the manager that has started this process.
#[derive(Debug)]
pub struct Systemd {
    socket: UnixDatagram,
    /// Of how many descriptors there may be more.
    room: Mutex<usize>,
}

impl Systemd {
    /// The manager's store, if it has one for this process, with `kept` descriptors in it.
    ///
    /// # Errors
    /// When there is one and it cannot be reached.
    pub fn of_environment(kept: usize) -> io::Result<Option<Self>> {
        // Set by managers that have a store (systemd 254), where there is one.
        let most = env::var("FDSTORE")
            .ok()
            .and_then(|most| most.parse::<usize>().ok());
        let (Some(most), Some(path)) = (most, env::var_os("NOTIFY_SOCKET")) else {
            return Ok(None);
        };
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(TAKES_WITHIN))?;
        Ok(Some(Self {
            socket,
            room: Mutex::new(most.saturating_sub(kept)),
        }))
    }

    fn room(&self) -> std::sync::MutexGuard<'_, usize> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the manager has read what was sent before.
    fn barrier(&self) -> io::Result<()> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        message::send(self.socket.as_fd(), b"BARRIER=1", Some(theirs.as_fd()))?;
        drop(theirs);
        let time = Timespec::try_from(TAKES_WITHIN).unwrap_or_default();
        // At the end of the other end: with POLLHUP.
        let mut fds = [PollFd::new(&ours, PollFlags::empty())];
        match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&time)))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

impl Keeper for Systemd {
    fn keep(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        // The manager does not say so when its store is full.
        let mut room = self.room();
        *room = room
            .checked_sub(1)
            .ok_or_else(|| io::Error::other("the store is full; raise FileDescriptorStoreMax="))?;
        drop(room);
        // It would forget a socket whose other end is closed, before it was looked at.
        let state = format!("FDSTORE=1\nFDNAME={PREFIX}{name}\nFDPOLL=0");
        message::send(self.socket.as_fd(), state.as_bytes(), Some(fd))?;
        self.barrier()
    }

    fn forget(&self, name: &str) -> io::Result<()> {
        let state = format!("FDSTOREREMOVE=1\nFDNAME={PREFIX}{name}");
        message::send(self.socket.as_fd(), state.as_bytes(), None)?;
        self.barrier()?;
        let mut room = self.room();
        *room = room.saturating_add(1);
        Ok(())
    }
}
