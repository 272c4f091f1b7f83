// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What devices count, as it is exported.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::histogram::Recorded;

/// One counter, for export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Family: `requests`, `request_status`, `page_status`, `faults`, ...
    pub family: &'static str,
    /// Name of the label, empty if the family has one counter only.
    pub label: &'static str,
    /// Value of the label.
    pub key: &'static str,
    /// What was counted so far.
    pub value: u64,
}

impl Sample {
    /// What `counter` has now.
    pub fn of(
        family: &'static str,
        label: &'static str,
        key: &'static str,
        counter: &AtomicU64,
    ) -> Self {
        Self {
            family,
            label,
            key,
            value: counter.load(Relaxed),
        }
    }
}

/// A histogram, for export.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latency {
    /// Names and values of its labels.
    pub labels: [(&'static str, &'static str); 3],
    /// What it has.
    pub recorded: Recorded,
}

impl Latency {
    /// The family that all of them are of.
    pub const FAMILY: &'static str = "request_duration_seconds";

    /// What it says, in a sentence.
    pub const HELP: &'static str = "Time from a request's place in the ring to its answer; a request is a run of pages. \
         hit: it brought a page or more, kept: a page or more was kept.";

    /// What was recorded of requests for `op` with this `result` in pools of the kind `pool`.
    pub fn new(
        op: &'static str,
        result: &'static str,
        pool: &'static str,
        recorded: Recorded,
    ) -> Self {
        Self {
            labels: [("op", op), ("result", result), ("pool", pool)],
            recorded,
        }
    }
}
