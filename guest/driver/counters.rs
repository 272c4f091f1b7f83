// SPDX-License-Identifier: GPL-2.0

//! Counters, shown in debugfs below `tmem/`.

use kernel::{
    debugfs::Scope,
    fmt,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

/// A number that only statistics depend on.
pub(crate) struct Counter(Atomic<u64>);

impl Counter {
    /// Zero.
    pub(crate) fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Counts `more`.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// Counts `less` fewer.
    pub(crate) fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Relaxed);
    }

    /// Replaces the number.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The number.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// All counters.
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: Counter,)*
        }

        impl Counters {
            fn new() -> Self {
                Self { $($name: Counter::new(),)* }
            }

            /// Makes the directory `tmem` with a file for each counter.
            pub(crate) fn show(counters: Arc<Self>) -> impl PinInit<Scope<Arc<Self>>> {
                Scope::dir(counters, c"tmem", |counters: &Arc<Self>, dir| {
                    $(dir.read_only_file(
                        // The name of the file is the name of the field.
                        kernel::c_str!(core::stringify!($name)),
                        &counters.$name,
                    );)*
                })
            }
        }
    };
}

counters! {
    /// Pages read back from the device.
    loads,
    /// Pages that the device accepted.
    succ_stores,
    /// Pages that the device refused.
    failed_stores,
    /// Those among them that were not even sent, because the device had said that it is full.
    refused_early,
    /// Pages that the device was told to remove.
    invalidates,
    /// Pages that were read without having been stored; they read as zeros.
    misses,
    /// Stored pages that the device did not find any more. Never to be seen.
    lost,
    /// Pages whose bios failed for any reason but a refusal.
    io_errors,
    /// Requests for I/O sent.
    requests,
    /// Pages in those requests; divided by `requests`, the length of a run.
    request_pages,
    /// Flush requests sent.
    flush_requests,
    /// Notifications sent to the device.
    kicks,
    /// Times that a task looked for the answer to its read before it would sleep.
    attempted_polls,
    /// Those among them that it did not have to sleep after.
    successful_polls,
    /// Pages that were copied when they were swapped out; their bios ended at once.
    staged_pages,
    /// Times that the device did not take a run of such pages, which was kept to be sent again.
    kept_runs,
    /// Pages of bios that wait for a request or for the device.
    backlog,
    /// Writes that waited for a flush of the same page.
    deferred,
    /// Writes that were made to wait, because of the backlog or the device's absence.
    throttled,
    /// Pages that were not written because the device was away; they stayed in memory.
    postponed,
    /// Pages of the reserve that were freed while the device was away, because the kernel would have killed
    /// a process for lack of memory.
    relief_pages,
    /// Times that the device came back with the same pools.
    reattaches,
    /// Requests that the device called malformed, unknown or too long. Never to be seen.
    rejected,
    /// Pages stored on the device.
    stored_pages,
    /// Freed pages that the device is yet to be told of.
    pending_flushes,
    /// Bytes of free memory that the host was given.
    given_bytes,
    /// Bytes of free memory that the host did not take.
    ungiven_bytes,
    /// Requests that gave memory back.
    give_requests,
    /// Reports of free memory that were put off, because the device was away.
    gives_postponed,
    /// Bytes of memory that can be given back, as the host sees it.
    memory_bytes,
    /// Bytes of them that the host backed when last asked.
    backed_bytes,
    /// Bytes that the device grants.
    quota_bytes,
    /// Bytes that the device held when last asked.
    held_bytes,
}

/// Makes the counters, all zero.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn new() -> Result<Arc<Counters>> {
    Ok(Arc::new(Counters::new(), GFP_KERNEL)?)
}
