// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Front ends that come while another one is connected.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::stop::Stop;

/// How long the front end that is connected has to leave: one that is started again comes
/// before the end of the last one is seen.
const LEAVES_WITHIN: Duration = Duration::from_millis(300);

/// Runs `during`, and turns away who connects to `socket` meanwhile. `say` is told. Without an
/// event or a thread for that, they wait.
pub(super) fn turn_away<T>(
    socket: &(impl AsFd + Sync),
    stop: &Stop,
    say: impl Fn() + Send + Sync,
    during: impl FnOnce() -> T,
) -> T {
    let Ok(over) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) else {
        return during();
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("others".into());
        let turn_away = || {
            while waits(socket, &over, stop) {
                if is_over(&over, LEAVES_WITHIN) {
                    return;
                }
                say();
                // Closed at once.
                if rustix::net::accept(socket).is_err() {
                    // Out of file descriptors, perhaps.
                    let _ = is_over(&over, Duration::from_secs(1));
                }
            }
        };
        // The one that is served is not to suffer from that.
        let _ = thread.spawn_scoped(scope, turn_away);
        let outcome = during();
        // Fails only if it is readable already.
        let _ = rustix::io::write(&over, &1u64.to_ne_bytes());
        outcome
    })
}

/// Waits until somebody connects; `false` when it is over.
fn waits(socket: &impl AsFd, over: &OwnedFd, stop: &Stop) -> bool {
    loop {
        let mut fds = [
            PollFd::new(socket, PollFlags::IN),
            PollFd::new(over, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            // Nobody is turned away then: they wait.
            Err(_) => return false,
        }
        let [connects, over, stop] = fds.map(|fd| !fd.revents().is_empty());
        if over || stop {
            return false;
        }
        if connects {
            return true;
        }
    }
}

/// Whether it is over within `time`.
fn is_over(over: &OwnedFd, time: Duration) -> bool {
    let mut fds = [PollFd::new(over, PollFlags::IN)];
    let time = Timespec::try_from(time).unwrap_or_default();
    poll(&mut fds, Some(&time)).is_ok_and(|ready| ready > 0)
}
