// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The API socket: the control API of the host ([`tmem_host::api`]) for the guest in this
//! process, and what is this machine's alone. `openapi.json` describes the latter; `GET
//! /v1/openapi.json` gives both.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/vm` | state, vCPUs, memory, and where its transcendent memory is |
//! | `PUT /v1/vm/pause`, `PUT /v1/vm/resume` | once the guest stands still, or goes on; then as above |
//! | `PUT /v1/vm/shutdown` | presses the power button; with `{"force": true}` ends the machine |
//! | `GET /v1/stats`, `GET /metrics` | as in the control API, and every device's counters |

mod openapi;
mod routes;
mod stats;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use tmem_cli::socket::Socket;
use tmem_host::http::{self, Guard};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::confine::{self, Role};
use crate::event;
use crate::vm::SharedVm;

/// A thread that answers on a socket. Dropping it ends the thread and removes
/// the socket.
#[derive(Debug)]
pub struct Api {
    opening: Sender<()>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    _socket: Arc<Socket>,
}

impl Api {
    /// A thread that is to answer for `vm` on `socket`, once [`Api::open`] is
    /// called; clients wait until then, and `guard` judges them.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor to give.
    pub fn start(socket: Socket, guard: Guard, vm: SharedVm) -> Result<Self> {
        let stop = Arc::new(EventFd::new(EFD_NONBLOCK).context("cannot make an event")?);
        let socket = Arc::new(socket);
        let (listener, stopped) = (socket.clone(), stop.clone());
        let (opening, opened) = channel();
        let body = move || {
            // An error means that it never is.
            if opened.recv().is_err() {
                return;
            }
            http::serve(
                listener.listener(),
                &event::fd(&stopped),
                Some(guard),
                |request| routes::answer(&vm, request),
            );
        };
        let thread =
            confine::spawn("api", Role::Api, body).context("cannot start a thread for the API")?;
        Ok(Self {
            opening,
            stop,
            thread: Some(thread),
            _socket: socket,
        })
    }

    /// Begins to answer.
    pub fn open(&self) {
        // Fails only when the thread is gone; then there is nobody to tell.
        let _ = self.opening.send(());
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        event::set(&self.stop);
        // If it was not open, it sees that it is to stop.
        self.open();
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
