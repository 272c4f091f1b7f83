// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control socket: the control API, for those who may use it.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result};
use tmem_cli::socket::Socket;
use tmem_host::api::Api;
use tmem_host::http::{self, Guard};

use crate::cli::Options;
use crate::settings;
use crate::stop::Stop;

/// A control socket on which nobody is answered yet.
#[derive(Debug)]
pub struct Control {
    socket: Socket,
    guard: Guard,
    api: Api,
}

impl Control {
    /// Makes the socket that the options ask for.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(options: &Options, api: Api) -> Result<Option<Self>> {
        let Some(path) = &options.control_socket else {
            return Ok(None);
        };
        let access = settings::access(options.control_group.as_deref(), None)?;
        Ok(Some(Self {
            socket: Socket::bind(path, access)?,
            guard: Guard::own().and_group(access.group),
            api,
        }))
    }

    /// Answers in a thread of its own.
    ///
    /// # Errors
    /// When the system has no event or thread.
    pub fn start(self) -> Result<Running> {
        let stop = Arc::new(Stop::new().context("cannot make an event")?);
        let stopped = stop.clone();
        let thread = Builder::new().name("control".into());
        let thread = thread.spawn(move || {
            let listener = self.socket.listener();
            http::serve(listener, &*stopped, self.guard, |request| {
                self.api.answer(request)
            });
        });
        Ok(Running {
            stop,
            thread: Some(thread.context("cannot start a thread")?),
        })
    }
}

/// A control socket that answers until this is dropped.
#[derive(Debug)]
pub struct Running {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.ask();
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
