// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Waiting for a peer that may take any time, as long as it does something now and then, and somebody
//! says that it is to be waited for.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long a peer may do nothing at all.
pub(crate) const STALLED: Duration = Duration::from_secs(30);

/// How often it is looked whether to go on.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

/// Repeats what would block, whenever `fd` is ready, until it does not.
///
/// # Errors
/// Those of `act`; `ConnectionAborted` when it is not to go on, and `TimedOut` after [`STALLED`].
pub(crate) fn when<T>(
    fd: impl AsFd,
    ready: PollFlags,
    goes_on: &impl Fn() -> bool,
    mut act: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let since = Instant::now();
    loop {
        match act() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
        if !goes_on() {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        if since.elapsed() >= STALLED {
            return Err(ErrorKind::TimedOut.into());
        }
        let mut fds = [PollFd::new(&fd, ready)];
        let look = Timespec::try_from(LOOK).unwrap_or_default();
        match poll(&mut fds, Some(&look)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
