// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A port's input: a thread reads the connection and feeds the 16550.
//!
//! When too much waits for the guest, the connection is not read. The keys for
//! the VMM are seen when they are read, so that one can quit although the guest
//! reads nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vmm_sys_util::eventfd::EventFd;

use super::keys::{Action, HELP, Keys};
use super::output::Output;
use super::uart::Uart;
use crate::event;
use crate::terminal;

/// Bytes read at once.
const CHUNK: usize = 4096;

/// How often a process in the background looks whether it has the terminal.
const LOOK: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// What the thread works on.
pub(super) struct Input {
    pub(super) source: OwnedFd,
    /// The source is a terminal that a person sits at.
    pub(super) terminal: bool,
    pub(super) uart: Arc<Uart>,
    /// For the help.
    pub(super) output: Option<Arc<Output>>,
    /// Readable at the end.
    pub(super) end: EventFd,
    /// For the quit key.
    pub(super) quit: Box<dyn FnMut() + Send>,
}

impl Input {
    /// Works until the end of the port or the input.
    pub(super) fn run(mut self) {
        let mut keys = Keys::default();
        // A terminal in the hands of another job is left alone.
        let mut ours = !self.terminal || terminal::is_ours();
        let mut room = true;
        loop {
            let Some([ended, emptied, readable]) = self.wait(ours, room) else {
                continue;
            };
            if ended {
                return;
            }
            if emptied {
                event::take(self.uart.room());
                room = true;
            }
            if self.terminal {
                ours = terminal::take(ours);
            }
            if ours && readable {
                match self.read(&mut keys) {
                    Some(input) => room = self.uart.feed(&input),
                    None => return,
                }
            }
        }
    }

    /// Waits for the end, room in the port, or input: tells which.
    fn wait(&self, ours: bool, room: bool) -> Option<[bool; 3]> {
        let (end, emptied) = (event::fd(&self.end), event::fd(self.uart.room()));
        // A source that is not to be read stands back: its hang-up would be
        // told all the time.
        let source = if ours && room {
            self.source.as_fd()
        } else {
            end
        };
        let mut fds = [end, emptied, source].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let timeout = (!ours).then_some(&LOOK);
        // An interruption tells nothing, and the caller comes again.
        poll(&mut fds, timeout).ok()?;
        Some(fds.map(|fd| !fd.revents().is_empty()))
    }

    /// Reads once, and does what the keys for the VMM say. Gives what is for
    /// the guest; nothing at the end of the input.
    fn read(&mut self, keys: &mut Keys) -> Option<Vec<u8>> {
        let mut buffer = [0; CHUNK];
        let read = match rustix::io::read(&self.source, &mut buffer) {
            Ok(0) => return None,
            Ok(len) => buffer.get(..len).unwrap_or_default(),
            Err(Errno::INTR | Errno::AGAIN) => &[],
            // Another job has got the terminal just now.
            Err(Errno::IO) if self.terminal && !terminal::is_ours() => &[],
            Err(_) => return None,
        };
        if !self.terminal {
            return Some(read.to_vec());
        }
        let (guest, actions) = keys.read(read);
        for action in actions {
            match action {
                Action::Quit => (self.quit)(),
                Action::Help => {
                    if let Some(output) = &self.output {
                        HELP.bytes().for_each(|byte| output.push(byte));
                    }
                }
                Action::Nothing | Action::Pass | Action::PassBoth => {}
            }
        }
        Some(guest)
    }
}
