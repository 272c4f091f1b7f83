// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device, as the vhost crate serves it over a connection within this process.
//!
//! The crate waits until a message is complete. It is asked only when one is there as a whole,
//! so it never waits.

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow};
use vhost::vhost_user::BackendReqHandler;

use super::super::requests::Requests;
use super::message::{Came, Incoming, Message};

/// A device that is asked.
pub(in crate::vhost_user) struct Inner {
    ours: UnixStream,
    handler: BackendReqHandler<Mutex<Requests>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl Inner {
    /// # Errors
    /// When the system has no socket.
    pub(in crate::vhost_user) fn new(requests: Requests) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("cannot connect to itself")?;
        let handler = BackendReqHandler::from_stream(theirs, Arc::new(Mutex::new(requests)));
        Ok(Self { ours, handler })
    }

    /// Has it do what a message says: the answer, if there is one, and whether it could. If it
    /// could not, it is not to be asked again.
    pub(super) fn ask(
        &mut self,
        message: &Message,
        fds: &[BorrowedFd<'_>],
    ) -> (Option<Message>, Result<()>) {
        if let Err(error) = message.send(&self.ours, fds) {
            return (
                None,
                Err(error).context("the device does not take a message"),
            );
        }
        let done = self.handler.handle_request();
        let answer = match Incoming::default().receive(&self.ours) {
            Came::Whole(answer) => Some(answer),
            _ => None,
        };
        let done = done.map_err(|error| anyhow!("failed to handle request: {error}"));
        (answer, done)
    }
}
