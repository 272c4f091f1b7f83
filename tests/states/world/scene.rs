// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which world there is.

/// What a driver could do wrong. Each must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What a read brought is put with a ticket from when it ended.
    LateTicket,
    /// Writes are not noted.
    NoWrites,
    /// Writes are noted when they end.
    LateWrites,
    /// Writes are noted when all their pages are absent.
    #[allow(dead_code, reason = "with wide bounds no bio has parts")]
    AbsentFirst,
    /// Writes are over when they are submitted.
    ShortWrites,
    /// What a read brought is put even though a write came in between.
    NoCheck,
    /// Writes that come while a put is under way are not noted.
    NoRecheck,
    /// A page may be put twice at a time.
    TwoPuts,
    /// The host is asked for pages that are not present.
    AsksAlways,
    /// Nobody looks whether the disk is another one.
    NeverLooks,
    /// What is evicted is put whether or not it is what was read.
    NoFingerprint,

    /// Writes do not wait while pages are written back.
    NothingHeld,
    /// Writes do not wait for flushes.
    NothingDeferred,
    /// A page that is written is flushed all the same.
    StaysPending,
    /// Pages that are written to the disk are still read from the host.
    StaysStored,
    /// Refused pages count as stored.
    RefusalIgnored,
    /// Pages count as stored when there was no answer.
    SilenceIsConsent,
    /// Pages are written back while others are swapped out.
    DrainInHaste,
    /// Ending a bio well clears what went wrong with a part of it.
    SuccessClears,
    /// What was read is not marked when something else is lost.
    FailsWhole,
    /// What a write was to replace is forgotten when nobody knows what became of the write.
    ForgetsOld,
}

/// A world to be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scene {
    pub(crate) is_swap: bool,
    /// The swap disk, without a filter.
    pub(crate) is_disk: bool,
    pub(crate) is_eager: bool,
    /// What was read is put when it is evicted.
    pub(crate) is_victim: bool,
    /// Others have the same disk, and the same pages on the host.
    pub(crate) is_shared: bool,
    /// Then only the guest judges.
    pub(crate) fault: Option<Fault>,
}
