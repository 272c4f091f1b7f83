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
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::Keeper;
use super::message;

/// What names of ours begin with, in the manager's store.
pub const PREFIX: &str = "tmem+";

/// How long the manager has to take something over.
const TAKES_WITHIN: Duration = Duration::from_secs(5);

/// How long one that did not is left alone: it may be reloading, or stuck.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// What kind of error it is then.
const LEFT: io::ErrorKind = io::ErrorKind::NotConnected;

/// The store of the manager that has started this process.
#[derive(Debug)]
pub struct Systemd {
    socket: UnixDatagram,
    /// Of how many descriptors there may be more.
    room: Mutex<usize>,
    /// Until when the manager is left alone.
    until: Mutex<Option<Instant>>,
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
            until: Mutex::new(None),
        }))
    }

    /// Tells the manager something, and waits until it has read that. Others wait meanwhile:
    /// if it does not, nobody else is to find that out.
    fn tell(&self, state: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| Instant::now() < until) {
            return Err(io::Error::new(
                LEFT,
                "the service manager does not answer; it is asked again a minute later",
            ));
        }
        let sent = message::send(self.socket.as_fd(), state.as_bytes(), fd);
        let told = sent.and_then(|()| self.barrier());
        let is_slow = |error: &io::Error| {
            [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock].contains(&error.kind())
        };
        *until = told
            .as_ref()
            .is_err_and(is_slow)
            .then(|| Instant::now() + LEFT_ALONE);
        told
    }

    fn room(&self) -> std::sync::MutexGuard<'_, usize> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room_again(&self) {
        let mut room = self.room();
        *room = room.saturating_add(1);
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
        let told = self.tell(&state, Some(fd));
        // Otherwise it may be kept, now or later.
        if told.as_ref().is_err_and(|error| error.kind() == LEFT) {
            self.has_room_again();
        }
        told
    }

    fn forget(&self, name: &str) -> io::Result<()> {
        let state = format!("FDSTOREREMOVE=1\nFDNAME={PREFIX}{name}");
        self.tell(&state, None)?;
        self.has_room_again();
        Ok(())
    }

    fn is_there(&self) -> bool {
        // It ends with the system.
        true
    }
}
