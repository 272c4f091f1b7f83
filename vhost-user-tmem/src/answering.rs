// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A thread that answers on a socket, until it is dropped.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result};

use crate::stop::Stop;

/// Such a thread.
#[derive(Debug)]
pub struct Answering {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    /// Runs `body` in a thread called `name`. It is to return when the daemon stops.
    ///
    /// # Errors
    /// When the system has no event or thread.
    pub fn start(name: &str, body: impl FnOnce(&Stop) + Send + 'static) -> Result<Self> {
        let stop = Arc::new(Stop::new().context("cannot make an event")?);
        let stopped = stop.clone();
        let thread = Builder::new().name(name.into());
        let thread = thread.spawn(move || body(&stopped));
        Ok(Self {
            stop,
            thread: Some(thread.context("cannot start a thread")?),
        })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.ask();
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
