// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control socket: the control API, for those who may use it.

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use anyhow::Result;
use tmem_cli::socket::{Access, Socket};
use tmem_host::api::Api;
use tmem_host::http::{self, Guard};
use tmem_host::image::Workers;

use crate::answering::Answering;
use crate::cli::Options;
use crate::confine::{self, Role};
use crate::entry::Entry;
use crate::faults;

/// A control socket on which nobody is answered yet.
#[derive(Debug)]
pub struct Control {
    entry: Entry,
    guard: Guard,
    api: Api,
}

impl Control {
    /// Takes the socket that was inherited, or else makes the one that the options ask for.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(
        options: &Options,
        inherited: Option<UnixListener>,
        api: Api,
    ) -> Result<Option<Self>> {
        let access = Access::of(options.control_group.as_deref(), None)?;
        let entry = match (inherited, &options.control_socket) {
            (Some(listener), _) => Entry::Inherited(listener),
            (None, Some(path)) => Entry::Made(Socket::bind(path, access)?),
            (None, None) => return Ok(None),
        };
        Ok(Some(Self {
            entry,
            guard: Guard::own().and_group(access.group),
            api,
        }))
    }

    /// Answers in a thread of its own, and what takes long in those of `workers`.
    ///
    /// # Errors
    /// When the system has no event or thread.
    pub fn start(self, workers: Arc<Workers>) -> Result<Answering> {
        Answering::start("control", move |stop| {
            confine::enter(Role::Control);
            let listener = self.entry.socket();
            http::serve(listener, stop, Some(self.guard), |request| {
                faults::when_asked("control");
                self.api.serve(request, &workers)
            });
        })
    }
}
