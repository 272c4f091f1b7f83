// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A port's input: a thread reads the connection and feeds the 16550.
//!
//! No byte is lost: what does not fit into the FIFO waits here, and when too
//! much waits here, the connection is not read. The keys for the VMM are seen
//! when they are read, so that one can quit although the guest reads nothing.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vmm_sys_util::eventfd::EventFd;

use super::keys::{Action, HELP, Keys};
use super::output::Output;
use super::terminal;
use super::uart::Uart;
use crate::event;

/// Input that may wait for the guest before no more is read.
const BACKLOG: usize = 64 << 10;

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
        let mut backlog = VecDeque::new();
        // A terminal in the hands of another job is left alone.
        let mut ours = !self.terminal || terminal::is_ours();
        let mut open = true;
        while open || !backlog.is_empty() {
            let (end, room) = (event::fd(&self.end), event::fd(self.uart.room()));
            let mut fds = vec![
                PollFd::new(&end, PollFlags::IN),
                PollFd::new(&room, PollFlags::IN),
            ];
            if open && ours && backlog.len() < BACKLOG {
                fds.push(PollFd::new(&self.source, PollFlags::IN));
            }
            let timeout = (!ours).then_some(&LOOK);
            // An interruption leaves no event.
            if !matches!(poll(&mut fds, timeout), Ok(_) | Err(Errno::INTR)) {
                return;
            }
            let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready.first() == Some(&true) {
                return;
            }
            event::take(self.uart.room());
            if self.terminal {
                ours = terminal::take(ours);
            }
            if ours && ready.get(2) == Some(&true) {
                open = self.read(&mut keys, &mut backlog);
            }
            self.feed(&mut backlog);
        }
    }

    /// Reads once; `false` at the end of the input.
    fn read(&mut self, keys: &mut Keys, backlog: &mut VecDeque<u8>) -> bool {
        let mut buffer = [0; CHUNK];
        let read = match rustix::io::read(&self.source, &mut buffer) {
            Ok(0) => return false,
            Ok(len) => buffer.get(..len).unwrap_or_default(),
            Err(Errno::INTR | Errno::AGAIN) => return true,
            // Another job has got the terminal just now.
            Err(Errno::IO) if self.terminal && !terminal::is_ours() => return true,
            Err(_) => return false,
        };
        if !self.terminal {
            backlog.extend(read);
            return true;
        }
        let (guest, actions) = keys.read(read);
        backlog.extend(guest);
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
        true
    }

    fn feed(&self, backlog: &mut VecDeque<u8>) {
        while !backlog.is_empty() {
            let taken = self.uart.feed(backlog.as_slices().0);
            if taken == 0 {
                break;
            }
            backlog.drain(..taken);
        }
    }
}
