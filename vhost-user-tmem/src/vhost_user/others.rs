// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Front ends that come while another one is connected.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::vm::Vm;

/// How long the front end that is connected has to leave: one that is started again comes
/// before the end of the last one is seen.
const LEAVES_WITHIN: Duration = Duration::from_millis(300);

/// How long to wait after nobody could be accepted: out of file descriptors, perhaps.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Whether somebody is to be turned away, and when.
#[derive(Debug, Default)]
pub(super) struct Others {
    due: Option<Instant>,
}

impl Others {
    /// Somebody waits.
    pub(super) fn has_come(&mut self) {
        self.due = Instant::now().checked_add(LEAVES_WITHIN);
    }

    /// Turns away who waits at `entry` if it is time; when it will be, if somebody still waits.
    pub(super) fn turn_away_if_due(&mut self, entry: &UnixListener, vm: &Vm) -> Option<Instant> {
        let now = Instant::now();
        if self.due.is_some_and(|due| due <= now) {
            // Closed at once.
            self.due = match entry.accept() {
                Ok(_) => {
                    vm.say(|| log::warn!("{}: another front end was turned away", vm.name()));
                    None
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
                Err(_) => now.checked_add(BACK_OFF),
            };
        }
        self.due
    }
}
