// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A listening socket that whoever started the daemon opened for it.

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, sockopt};

/// Takes over the listening socket inherited as `fd`. To be called once, before
/// the process opens anything itself.
///
/// # Errors
/// When it is not an open, listening Unix socket.
pub fn take(fd: i32) -> Result<UnixListener> {
    ensure!(
        fd > 2,
        "--fd {fd} cannot be a listening socket; give its number, 3 or higher"
    );
    ensure!(
        fs::exists(format!("/proc/self/fd/{fd}")).unwrap_or(false),
        "file descriptor {fd} of --fd is not open; start the daemon with a listening socket as that number"
    );
    // SAFETY: `fd` is open, as was just seen, and nothing else in this process
    // owns it: it was open when the process began, is no standard stream, and
    // this function is called once, before the process opens anything.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    let listens = sockopt::socket_domain(&owned) == Ok(AddressFamily::UNIX)
        && sockopt::socket_acceptconn(&owned) == Ok(true);
    ensure!(
        listens,
        "file descriptor {fd} of --fd is no listening Unix socket; pass one on which listen() was called"
    );
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)
        .with_context(|| format!("cannot take over file descriptor {fd}"))?;
    Ok(owned.into())
}
