// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! File descriptors that the service manager passes on (sd_listen_fds(3)): sockets of socket
//! units, and what it kept of an earlier process. Each has a name, and is taken over by whom it is for.

#![expect(unsafe_code, reason = "takes inherited file descriptors over")]

use std::env;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{LazyLock, Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_setfd};

/// The first file descriptor that is passed on (SD_LISTEN_FDS_START).
const FIRST: i32 = 3;

/// What the manager calls one without a name.
const UNKNOWN: &str = "unknown";

/// Those that nobody has taken over yet.
static PASSED: LazyLock<Mutex<Vec<(String, OwnedFd)>>> = LazyLock::new(|| Mutex::new(all()));

/// Takes over those that `is_wanted` says by name, in their order. To be called once before the
/// process opens anything itself, and then whenever it likes.
pub fn take(is_wanted: impl Fn(&str) -> bool) -> Vec<(String, OwnedFd)> {
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let (wanted, others) = std::mem::take(&mut *passed)
        .into_iter()
        .partition(|(name, _)| is_wanted(name));
    *passed = others;
    wanted
}

/// Takes over the one with this number, if it was passed on.
pub fn take_number(number: RawFd) -> Option<OwnedFd> {
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let at = passed.iter().position(|(_, fd)| fd.as_raw_fd() == number)?;
    Some(passed.swap_remove(at).1)
}

/// All that were passed to this process.
fn all() -> Vec<(String, OwnedFd)> {
    let number = |name| {
        env::var(name)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
    };
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let (Some(count), Some(pid)) = (number("LISTEN_FDS"), number("LISTEN_PID")) else {
        return Vec::new();
    };
    if pid != std::process::id() {
        return Vec::new();
    }
    let names = names.split(':').filter(|name| !name.is_empty());
    let names = names.chain(std::iter::repeat(UNKNOWN));
    let fds = (FIRST..).zip(names).take(count as usize);
    fds.filter_map(|(fd, name)| {
        // SAFETY: the descriptor was open when the process began, by the protocol of
        // sd_listen_fds(3), for this process by its id. Nothing else in it owns the
        // descriptor: nothing was opened so far, and this is called once, for `PASSED`.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if let Err(error) = fcntl_setfd(&fd, FdFlags::CLOEXEC) {
            // Not one that is open: closing it would be wrong, too.
            std::mem::forget(fd);
            log::warn!("cannot take over the file descriptor '{name}': {error}");
            return None;
        }
        Some((name.to_owned(), fd))
    })
    .collect()
}
