// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the process gives up once everything is opened: each thread drops all
//! privileges and may make only the system calls that its work needs.
//!
//! A filter is inherited by the threads that a thread starts, so all threads
//! are started by the first one, before it confines itself.

mod filter;

use std::io;
use std::thread::{Builder, JoinHandle};

use tmem_host::{confine, heap};

pub use tmem_host::confine::Level;

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
    /// Reads counters of the vCPUs.
    Watch,
    /// Looks after the in-process store now and then.
    Care,
}

/// Sets what happens at calls that are not allowed. To be called before any
/// thread is started; the first call counts.
///
/// # Errors
/// When the system refuses to say what it is that was not allowed.
pub fn set_level(level: Level) -> io::Result<()> {
    confine::begin("tmem-vmm", level, crate::terminal::restore)?;
    // A heap each would cost threads memory for nothing, and making one looks at files.
    heap::share();
    Ok(())
}

/// Starts a thread that is confined to what `role` needs. `name` is what the
/// system shows of it, 15 bytes at most.
///
/// # Errors
/// When the system has no thread to give.
pub fn spawn(
    name: &str,
    role: Role,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(move || {
        enter(role);
        body();
    })
}

/// Confines the calling thread to what `role` needs. If the kernel does not
/// take that, the program ends: it is not what was asked for.
pub fn enter(role: Role) {
    if !confine::is_asked_for() {
        return;
    }
    let confined =
        confine::drop_privileges().and_then(|()| confine::install(&filter::allowed(role)));
    if let Err(error) = confined {
        crate::terminal::restore();
        eprintln!(
            "tmem-vmm: cannot confine a thread: {error}; --seccomp off does without the filter"
        );
        std::process::exit(1);
    }
}
