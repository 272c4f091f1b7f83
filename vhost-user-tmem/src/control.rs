// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control socket: the control API, for those who may use it.

use anyhow::Result;
use tmem_cli::socket::Socket;
use tmem_host::api::Api;
use tmem_host::http::{self, Guard};

use crate::answering::Answering;
use crate::cli::Options;
use crate::settings;

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
    pub fn start(self) -> Result<Answering> {
        Answering::start("control", move |stop| {
            let listener = self.socket.listener();
            http::serve(listener, stop, Some(self.guard), |request| {
                self.api.answer(request)
            });
        })
    }
}
