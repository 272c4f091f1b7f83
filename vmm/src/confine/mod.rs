// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the process gives up once everything is opened: each thread drops all
//! privileges and may make only the system calls that its work needs.
//!
//! A filter is inherited by the threads that a thread starts, so all threads
//! are started by the first one, before it confines itself.

mod filter;
mod heap;
mod trap;

use std::io;
use std::sync::OnceLock;
use std::thread::{Builder, JoinHandle};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

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
    /// Reads counters of the vCPUs.
    Watch,
    /// Looks after the in-process store now and then.
    Care,
}

/// Set once by the program; a library's user that does not is not confined.
static LEVEL: OnceLock<Level> = OnceLock::new();

/// Sets what happens at calls that are not allowed. To be called before any
/// thread is started; the first call counts.
///
/// # Errors
/// When the system refuses to say what it is that was not allowed.
pub fn set_level(level: Level) -> io::Result<()> {
    trap::catch()?;
    heap::share();
    // A second call is a mistake without a consequence.
    let _ = LEVEL.set(level);
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
    let Some(level) = LEVEL.get() else {
        return;
    };
    if let Err(error) = drop_privileges().and_then(|()| filter::install(role, *level)) {
        crate::terminal::restore();
        eprintln!(
            "tmem-vmm: cannot confine a thread: {error}; --seccomp off does without the filter"
        );
        std::process::exit(1);
    }
}

fn drop_privileges() -> io::Result<()> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, none)?)
}
