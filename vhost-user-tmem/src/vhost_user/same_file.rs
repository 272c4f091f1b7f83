// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether two descriptors of this process are of one open file (kcmp(2)).

#![expect(unsafe_code, reason = "rustix does not have this call")]

use std::os::fd::{AsFd, AsRawFd};

/// KCMP_FILE (linux/kcmp.h).
const FILE: u32 = 0;

/// Whether `one` and `other` are; `None` if the kernel does not tell.
pub(super) fn is_same(one: impl AsFd, other: impl AsFd) -> Option<bool> {
    let (one, other) = (one.as_fd().as_raw_fd(), other.as_fd().as_raw_fd());
    let process = libc::c_ulong::from(std::process::id());
    let [one, other] = [one, other].map(|fd| libc::c_ulong::from(fd.unsigned_abs()));
    // SAFETY: The call takes five numbers and touches no memory of ours.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            process,
            process,
            libc::c_ulong::from(FILE),
            one,
            other,
        )
    };
    // Which comes first is of no use.
    (order >= 0).then_some(order == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    #[test]
    fn a_duplicate_is_the_same_and_another_event_is_not() {
        let [one, other] = [(); 2].map(|()| eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        assert_eq!(is_same(&one, one.try_clone().unwrap()), Some(true));
        assert_eq!(is_same(&one, &one), Some(true));
        assert_eq!(is_same(&one, &other), Some(false));
    }
}
