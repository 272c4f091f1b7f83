// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How much of everything there is.

use serde::Serialize;
use std::time::Duration;

/// How much of everything.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Plan {
    /// Guests.
    pub(crate) guests: usize,
    /// RAM of each, in MiB.
    pub(crate) memory_mib: u64,
    /// What daemon and guests may hold together, in MiB.
    pub(crate) budget_mib: u64,
    /// What each guest's service has in its heap, in MiB; Python takes a sixth more.
    pub(crate) heap_mib: u64,
    /// The database that it makes, reads and throws away in each busy phase, in MiB.
    pub(crate) database_mib: u64,
    /// Rows of it that are read one by one.
    pub(crate) rows: u64,
    /// Busy phases of each guest, beside the one in which its service is filled.
    pub(crate) rounds: u64,
    /// Seconds between the end of one guest's busy phase and the begin of the next one's.
    pub(crate) lull_s: u64,
    /// Seconds for which it is watched, in the end, how memory comes back.
    pub(crate) rest_s: u64,
    /// `--memory-limit` of the daemon.
    pub(crate) store: &'static str,
}

/// `--quota` of the daemon.
pub(crate) const QUOTA: &str = "credit:64M";

impl Plan {
    /// What the guests want together is more than the budget by two guests; what
    /// they want when all but one are idle, and their pages are in the store, is less.
    pub(crate) const WHOLE: Self = Self {
        guests: 6,
        memory_mib: 512,
        budget_mib: 2240,
        heap_mib: 220,
        database_mib: 24,
        rows: 3000,
        rounds: 1,
        lull_s: 14,
        rest_s: 30,
        store: "1G",
    };

    pub(crate) const QUICK: Self = Self {
        guests: 3,
        budget_mib: 1312,
        store: "512M",
        ..Self::WHOLE
    };

    pub(crate) fn lull(self) -> Duration {
        Duration::from_secs(self.lull_s)
    }

    pub(crate) fn rest(self) -> Duration {
        Duration::from_secs(self.rest_s)
    }
}
