// SPDX-License-Identifier: GPL-2.0

//! What the running task may do while memory is short.

use super::bindings;

/// Whether the running task may be made to wait for memory to be reclaimed: user tasks and kswapd.
///
/// Other kernel threads never wait, because one of them may be the one that brings the device back.
pub(crate) fn may_wait() -> bool {
    // SAFETY: Reads flags of the running task, which is always allowed.
    unsafe { bindings::tmem_may_wait_for_reclaim() }
}
