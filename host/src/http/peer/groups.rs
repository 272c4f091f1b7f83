// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The supplementary groups of a peer (unix(7), SO_PEERGROUPS).

#![expect(unsafe_code, reason = "rustix does not have this option")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Those of the process that connected to, or made, `socket`.
pub(super) fn of(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    const EACH: usize = size_of::<libc::gid_t>();
    // What most have fits; else the kernel says how much there is.
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let room = groups.len().saturating_mul(EACH);
        let mut bytes = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        // SAFETY: `groups` has `bytes` writable bytes, any of which make valid ids, and
        // both pointers are used during the call only.
        let failed = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        } != 0;
        let have = bytes as usize / EACH;
        if !failed {
            groups.truncate(have);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || have <= groups.len() {
            return Err(error);
        }
        groups.resize(have, 0);
    }
}
