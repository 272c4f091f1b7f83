// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The heap of a program with many threads that allocate little.

/// Has all threads share one heap: a heap each would cost memory for nothing,
/// and making one looks at files, which a confined thread may not.
pub(crate) fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number in the allocator; called before there are threads.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
