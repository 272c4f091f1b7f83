// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A thread that looks at something every so often, until it is dropped.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::confine::{self, Role};

/// Such a thread.
#[derive(Debug)]
pub(crate) struct Recurring {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Tells the thread when it is to end.
pub(crate) struct End(Receiver<()>);

impl Recurring {
    /// Runs `body` on a thread of its own, which is to return once it is told of the end.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(
        name: &str,
        role: Role,
        body: impl FnOnce(&End) + Send + 'static,
    ) -> io::Result<Self> {
        let (end, ended) = channel();
        let thread = confine::spawn(name, role, move || body(&End(ended)))?;
        Ok(Self {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl End {
    /// Waits for so long; whether the end came before.
    pub(crate) fn comes_within(&self, time: Duration) -> bool {
        self.0.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
    }
}

impl Drop for Recurring {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
