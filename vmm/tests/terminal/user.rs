// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Who sits at a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, ioctl_tiocsctty, pidfd_open};
use rustix::process::{set_parent_process_death_signal, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::stdio::stdout;
use rustix::termios::{LocalModes, OutputModes, Termios, tcgetattr};

/// Longer than any machine takes for what is waited for.
const LONG: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// A terminal, and what has been seen on it.
pub(crate) struct User {
    screen: File,
    /// What the programs have. Kept open: without any, the terminal is gone.
    line: OwnedFd,
    seen: String,
}

/// This test program as another one. It ends with the thread that starts it,
/// also if that is a test that fails.
pub(crate) fn program(role: &str, guest: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("TERMINAL_ROLE", role)
        .env("TERMINAL_GUEST", guest);
    let die = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec, only a system call is made.
    unsafe { command.pre_exec(die) };
    command
}

/// Waits for the end of a program.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&LONG)), Ok(1), "the program hangs");
    child.wait().unwrap()
}

impl User {
    pub(crate) fn new() -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let path = ptsname(&screen, Vec::new()).unwrap().into_string().unwrap();
        let line = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(path)
            .unwrap();
        Self {
            screen: screen.into(),
            line: line.into(),
            seen: String::new(),
        }
    }

    /// The programs' side of the terminal.
    pub(crate) fn line(&self) -> Stdio {
        self.line.try_clone().unwrap().into()
    }

    /// Starts a program in a session of its own on this terminal, with another
    /// stdin perhaps.
    pub(crate) fn start(&self, program: &mut Command, stdin: Stdio) -> Child {
        program.stdin(stdin).stdout(self.line()).stderr(self.line());
        // SAFETY: between fork and exec, only two system calls are made.
        unsafe {
            program.pre_exec(|| {
                setsid()?;
                Ok(ioctl_tiocsctty(stdout())?)
            });
        }
        program.spawn().unwrap()
    }

    /// Types.
    pub(crate) fn press(&mut self, keys: &[u8]) {
        self.screen.write_all(keys).unwrap();
    }

    /// Waits until `text` is on the screen, after what was waited for before.
    pub(crate) fn see(&mut self, text: &str) {
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let mut fds = [PollFd::new(&self.screen, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&LONG));
            assert_eq!(ready, Ok(1), "no '{text}' in: {}", self.seen);
            let mut bytes = [0; 4096];
            let len = self.screen.read(&mut bytes).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..len]));
        }
    }

    pub(crate) fn settings(&self) -> Termios {
        tcgetattr(&self.line).unwrap()
    }

    pub(crate) fn is_raw(&self) -> bool {
        let settings = self.settings();
        let local = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        let raw = !settings.local_modes.intersects(local);
        let plain = !settings.output_modes.contains(OutputModes::OPOST);
        assert_eq!(raw, plain, "half of the settings are changed");
        raw
    }
}
