// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over what the kernel crate does not have: virtio, bios,
//! bio-based disks, filters on other disks, plugs, a lock for interrupt context, spinning,
//! cancellable work, misc devices that hold the module, free page reporting,
//! evictions from the page cache, lack of memory.
//!
//! All of the module's `unsafe` code and all uses of C bindings are below here.

mod bindings;
pub(crate) mod bio;
pub(crate) mod blockdev;
pub(crate) mod chain;
pub(crate) mod clone;
pub(crate) mod content;
pub(crate) mod disk;
pub(crate) mod eviction;
pub(crate) mod hibernation;
pub(crate) mod hook;
pub(crate) mod irq_lock;
pub(crate) mod misc;
pub(crate) mod module;
pub(crate) mod oom;
pub(crate) mod plug;
pub(crate) mod reclaim;
pub(crate) mod renewal;
pub(crate) mod reporting;
pub(crate) mod spin;
pub(crate) mod split;
pub(crate) mod staging;
pub(crate) mod virtio;
pub(crate) mod virtqueue;
pub(crate) mod work;

use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    },
};

/// Between two looks at a condition, in microseconds.
const POLL_MICROS: i64 = 500;

/// Sleeps until the condition holds.
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        fsleep(Delta::from_micros(POLL_MICROS));
    }
}

/// Sleeps until the condition holds, for `ms` milliseconds at most. Says whether it holds.
pub(crate) fn wait_briefly(ms: i64, mut condition: impl FnMut() -> bool) -> bool {
    let since = Instant::<Monotonic>::now();
    loop {
        if condition() {
            return true;
        }
        if since.elapsed() >= Delta::from_millis(ms) {
            return false;
        }
        fsleep(Delta::from_micros(POLL_MICROS));
    }
}

/// Whether a signal waits for the running task.
pub(crate) fn signal_pending() -> bool {
    // SAFETY: Reads flags of the running task, which is always allowed.
    unsafe { bindings::tmem_signal_pending() }
}

/// Pages of memory that the kernel manages.
pub(crate) fn memory_pages() -> u64 {
    // SAFETY: Has no preconditions.
    unsafe { bindings::tmem_memory_pages() }
}

/// Pages of memory that can be had without swapping, about.
pub(crate) fn available_pages() -> u64 {
    // SAFETY: Has no preconditions.
    unsafe { bindings::tmem_available_pages() }
}

/// Whether this machine's memory is encrypted, so that the host cannot read it.
pub(crate) fn is_confidential() -> bool {
    // SAFETY: Has no preconditions.
    unsafe { bindings::tmem_is_confidential() }
}

/// `ENOSYS`.
pub(crate) fn not_there() -> Error {
    Error::from_errno(-(kernel::bindings::ENOSYS as c_int))
}

/// `ENOTUNIQ`.
pub(crate) fn not_unique() -> Error {
    Error::from_errno(-(kernel::bindings::ENOTUNIQ as c_int))
}

/// `EOPNOTSUPP`, which the kernel crate has since 7.3.
pub(crate) fn not_supported() -> Error {
    Error::from_errno(-(kernel::bindings::EOPNOTSUPP as c_int))
}
