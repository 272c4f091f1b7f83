// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a thread gives up once it is set up: privileges, and the system calls that its
//! work does not need (seccomp(2)).
//!
//! A program says [`begin`] before it has threads; each thread then installs what it is
//! [`Allowed`]. A thread that is started inherits the filters of the one that starts it,
//! and can only add to them.
//!
//! A call that is not allowed ends the process. The kernel raises SIGSYS for it, whose
//! handler says which call it was. Filters do not let a thread change that handler, and
//! the kernel kills where there is none, so nothing goes on behind such a call.

mod allowed;
mod trap;

pub use allowed::Allowed;

use std::io;
use std::sync::OnceLock;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{BpfProgram, SeccompAction, apply_filter};

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

/// Set once by the program; a library's user that does not is not confined.
static LEVEL: OnceLock<Level> = OnceLock::new();

/// Sets what happens at calls that are not allowed, which `program` then names. `before` is
/// called before that is said: by a signal handler, so it neither locks nor allocates. To be
/// called before any thread is started; the first call counts.
///
/// # Errors
/// When the system refuses to say what it is that was not allowed.
pub fn begin(program: &'static str, level: Level, before: fn()) -> io::Result<()> {
    trap::catch(program, before)?;
    // A second call is a mistake without a consequence.
    let _ = LEVEL.set(level);
    Ok(())
}

/// Whether the program has said what happens at calls that are not allowed.
pub fn is_asked_for() -> bool {
    LEVEL.get().is_some()
}

/// A filter that is ready to be installed, again and again.
#[derive(Debug)]
pub struct Filter(Option<BpfProgram>);

impl Filter {
    /// Makes one that lets a thread make what is allowed.
    ///
    /// # Errors
    /// When there can be no such filter.
    pub fn new(allowed: &Allowed) -> io::Result<Self> {
        let refused = match LEVEL.get() {
            None | Some(Level::Off) => return Ok(Self(None)),
            Some(Level::Log) => SeccompAction::Log,
            Some(Level::On) => SeccompAction::Trap,
        };
        let program = allowed.program(refused).map_err(io::Error::other)?;
        Ok(Self(Some(program)))
    }

    /// Confines the calling thread, and threads that it starts.
    ///
    /// # Errors
    /// When the kernel does not take the filter.
    pub fn install(&self) -> io::Result<()> {
        match &self.0 {
            // Sets "no new privileges" as well.
            Some(program) => apply_filter(program).map_err(io::Error::other),
            None => Ok(()),
        }
    }
}

/// Confines the calling thread, and threads that it starts, to what is allowed.
///
/// # Errors
/// When the kernel does not take the filter.
pub fn install(allowed: &Allowed) -> io::Result<()> {
    Filter::new(allowed)?.install()
}

/// Has the C library make threads by clone(2), whose flags a filter can see, and not by
/// clone3(2): the calling thread, and threads that it starts.
///
/// # Errors
/// When the kernel does not take the filter.
pub fn without_clone3() -> io::Result<()> {
    if matches!(LEVEL.get(), None | Some(Level::Off)) {
        return Ok(());
    }
    let program = Allowed::nothing()
        .call(libc::SYS_clone3)
        .inverse(SeccompAction::Errno(libc::ENOSYS.unsigned_abs()));
    apply_filter(&program.map_err(io::Error::other)?).map_err(io::Error::other)
}

/// Drops all privileges of the calling thread, and of threads that it starts.
///
/// # Errors
/// When the kernel refuses.
pub fn drop_privileges() -> io::Result<()> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, none)?)
}
