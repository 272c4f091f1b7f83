// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The terminal on stdin: raw while the machine runs, as it was on every way
//! out.
//!
//! Raw means that all keys are the guest's, Ctrl-C and Ctrl-Z too, and that
//! what the guest writes reaches the screen as it is.
//!
//! While another job has the terminal (`tmem-vmm … &`, `timeout …`, or after a
//! stop and `bg`), the machine runs and its output is shown, but the terminal
//! is not read and its settings are not touched, also not at the end. Once a
//! second we look whether it is ours (`fg`), and when we are continued after a
//! stop. So SIGTTIN and SIGTTOU, which would stop the whole machine, are
//! ignored.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, OnceLock};

use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcsetattr};

/// The settings before, and ours. A process has one terminal, so they are
/// looked up once; then [`restore`] needs no lock.
static SETTINGS: OnceLock<(Termios, Termios)> = OnceLock::new();

/// Our settings are to be in force.
static HELD: AtomicBool = AtomicBool::new(false);

/// Keeps the terminal raw; brings its settings back when dropped.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Makes the terminal raw; nothing if stdin is none. From now on an exit
    /// of the process brings the settings back, and so does a panic in any
    /// thread, before it is reported.
    pub(crate) fn stdin() -> io::Result<Option<Self>> {
        if !isatty(stdin()) {
            return Ok(None);
        }
        if SETTINGS.get().is_none() {
            let before = tcgetattr(stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            // Another thread that was faster had the same.
            let _ = SETTINGS.set((before, raw));
        }
        leave_signals()?;
        restore_at_exit();
        HELD.store(true, Ordering::SeqCst);
        set_raw();
        Ok(Some(Self(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Brings back the settings that the terminal had, if they were changed. May
/// be called at any time, more than once, and from a signal handler: it takes
/// no lock, allocates nothing and makes only the system calls `ioctl` and
/// `getpgrp`.
pub fn restore() {
    if HELD.swap(false, Ordering::SeqCst)
        && is_ours()
        && let Some((before, _)) = SETTINGS.get()
    {
        set(before);
    }
}

/// What ends a line on stderr: a raw terminal does not go back to the first
/// column by itself.
pub fn line_end() -> &'static str {
    if HELD.load(Ordering::SeqCst) {
        "\r\n"
    } else {
        "\n"
    }
}

/// Whether we may use the terminal: we are its foreground job, or it knows no
/// jobs, because it is not our controlling terminal.
pub(crate) fn is_ours() -> bool {
    match tcgetpgrp(stdin()) {
        Ok(group) => group == getpgrp(),
        // The foreground job is one that we cannot see.
        Err(Errno::OPNOTSUPP) => false,
        Err(_) => true,
    }
}

/// Looks whether the terminal is ours, and makes it raw if it was not before.
pub(crate) fn take(before: bool) -> bool {
    let now = is_ours();
    if now && !before {
        set_raw();
    }
    now
}

fn set_raw() {
    let Some((before, raw)) = SETTINGS.get() else {
        return;
    };
    if HELD.load(Ordering::SeqCst) && is_ours() {
        set(raw);
        // Another thread may have restored it in between.
        if !HELD.load(Ordering::SeqCst) {
            set(before);
        }
    }
}

/// Does not wait for output: it may be stopped.
fn set(settings: &Termios) {
    // A terminal that is gone needs none.
    let _ = tcsetattr(stdin(), OptionalActions::Now, settings);
}

/// For the ways out that drop nothing.
fn restore_at_exit() {
    extern "C" fn at_exit() {
        restore();
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            report(panic);
        }));
        // SAFETY: the function may be called at any time and does not unwind.
        // A failure, for want of memory, leaves the other ways.
        let _ = unsafe { libc::atexit(at_exit) };
    });
}

/// Ignores the signals that stop a background job which uses the terminal. And
/// once continued, another job may have left its settings.
fn leave_signals() -> io::Result<()> {
    for signal in [libc::SIGTTIN, libc::SIGTTOU] {
        // SAFETY: no code of ours runs for a signal that is ignored, and
        // nobody else has set anything for these.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    static ONCE: AtomicBool = AtomicBool::new(true);
    if ONCE.swap(false, Ordering::SeqCst) {
        // SAFETY: the function does what a signal handler may: it takes no
        // lock, allocates nothing, and does not unwind.
        unsafe { signal_hook::low_level::register(libc::SIGCONT, set_raw) }?;
    }
    Ok(())
}
