// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Signals that end a program.
//!
//! A signal that was ignored when the program started stays ignored: nohup(1)
//! and scripts that start something in the background say so to keep it running.

#![expect(unsafe_code, reason = "asks the C library")]

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;

use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::low_level::pipe::register;

/// Becomes readable when one of its signals comes, and stays so.
#[derive(Debug)]
pub struct Signals {
    seen: File,
    /// A pipe that nobody can write to is readable, too.
    _raised: File,
}

impl Signals {
    /// Listens for those of `signals` that are not ignored.
    ///
    /// # Errors
    /// When the system has no file descriptor to give, or refuses a signal.
    pub fn listen(signals: &[i32]) -> io::Result<Self> {
        // A pipe, because whichever thread takes the signal may write to it.
        let (seen, raised) = pipe_with(PipeFlags::CLOEXEC)?;
        for signal in signals {
            if !is_ignored(*signal)? {
                register(*signal, raised.try_clone()?)?;
            }
        }
        Ok(Self {
            seen: seen.into(),
            _raised: raised.into(),
        })
    }

    /// Waits for the first signal; `false` if that is not possible.
    pub fn wait(&self) -> bool {
        (&self.seen).read_exact(&mut [0]).is_ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.seen.as_fd()
    }
}

/// Whether `signal` is ignored now.
///
/// # Errors
/// When there is no such signal.
pub fn is_ignored(signal: i32) -> io::Result<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is changed; what is in force is written to `action`, which
    // has room for it.
    let failed = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every field is an integer, an optional function or an array of
    // integers, for which zeros are a value; and the call has filled them in.
    let action = unsafe { action.assume_init() };
    Ok(action.sa_sigaction == libc::SIG_IGN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use signal_hook::consts::{SIGPIPE, SIGUSR1, SIGUSR2};
    use signal_hook::low_level::raise;

    fn is_readable(signals: &Signals) -> bool {
        let mut fds = [PollFd::new(signals, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn a_signal_is_heard_of() {
        let signals = Signals::listen(&[SIGUSR1, SIGUSR2]).unwrap();
        assert!(!is_readable(&signals));
        raise(SIGUSR2).unwrap();
        assert!(is_readable(&signals));
        assert!(signals.wait());
    }

    #[test]
    fn one_that_is_ignored_stays_so() {
        // As Rust programs start.
        assert!(is_ignored(SIGPIPE).unwrap());
        let signals = Signals::listen(&[SIGPIPE]).unwrap();
        assert!(is_ignored(SIGPIPE).unwrap());
        raise(SIGPIPE).unwrap();
        assert!(!is_readable(&signals));
    }

    #[test]
    fn there_are_signals_that_are_none() {
        assert!(is_ignored(-1).is_err());
    }
}
