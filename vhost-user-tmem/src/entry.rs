// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where the front ends of one virtual machine come in, or those who use the control API.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result};
use tmem_cli::socket::Socket;

/// A listening socket.
#[derive(Debug)]
pub enum Entry {
    /// One that the daemon has made.
    Made(Socket),
    /// One that it was started with.
    Inherited(UnixListener),
}

impl Entry {
    /// Another handle of the socket.
    ///
    /// # Errors
    /// When there is no file descriptor for it.
    pub fn listener(&self) -> Result<UnixListener> {
        self.socket().try_clone().context("cannot copy a socket")
    }

    /// The socket.
    pub fn socket(&self) -> &UnixListener {
        match self {
            Self::Made(socket) => socket.listener(),
            Self::Inherited(listener) => listener,
        }
    }

    /// Has nobody connect any more.
    pub fn end(&self) {
        match self {
            Self::Made(socket) => socket.end(),
            // It belongs to whoever made it.
            Self::Inherited(_) => {}
        }
    }
}

impl AsFd for Entry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Made(socket) => socket.as_fd(),
            Self::Inherited(listener) => listener.as_fd(),
        }
    }
}
