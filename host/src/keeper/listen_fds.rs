// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! File descriptors that the service manager kept and passes on (sd_listen_fds(3)).

#![expect(unsafe_code, reason = "takes inherited file descriptors over")]

use std::env;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_setfd};

use super::Kept;
use super::systemd::PREFIX;

/// The first file descriptor that is passed on (SD_LISTEN_FDS_START).
const FIRST: i32 = 3;

/// Takes over those whose names begin with [`PREFIX`]; the name is what follows. Others,
/// sockets of a socket unit for example, are left alone. To be called once, before the
/// process opens anything itself.
pub(super) fn take() -> Kept {
    let number = |name| {
        env::var(name)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
    };
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let (Some(count), Some(pid)) = (number("LISTEN_FDS"), number("LISTEN_PID")) else {
        return Kept::new();
    };
    if pid != std::process::id() {
        return Kept::new();
    }
    let fds = (FIRST..).zip(names.split(':')).take(count as usize);
    let ours = fds.filter_map(|(fd, name)| Some((name.strip_prefix(PREFIX)?.to_owned(), fd)));
    ours.filter_map(|(name, fd)| {
        // SAFETY: the descriptor was open when the process began, by the protocol of
        // sd_listen_fds(3), for this process by its id. Nothing else in it owns the
        // descriptor: nothing was opened so far, this is called once, and descriptors by
        // names of ours are taken over nowhere else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if let Err(error) = fcntl_setfd(&fd, FdFlags::CLOEXEC) {
            // Not one that is open: closing it would be wrong, too.
            std::mem::forget(fd);
            log::warn!("cannot take over the file descriptor '{name}': {error}");
            return None;
        }
        Some((name, fd))
    })
    .collect()
}
