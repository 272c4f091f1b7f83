// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Event file descriptors as files to wait for.

use std::os::fd::{AsRawFd, BorrowedFd};

use vmm_sys_util::eventfd::EventFd;

/// The file descriptor of `event`.
pub fn fd(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: `event` owns the descriptor, and the borrow keeps it open.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

/// Takes what was written to a non-blocking `event`; `false` if it was nothing.
pub fn take(event: &EventFd) -> bool {
    event.read().is_ok()
}

/// Makes `event` readable.
pub fn set(event: &EventFd) {
    // Fails only when the counter is at its end, and then it is readable.
    let _ = event.write(1);
}
