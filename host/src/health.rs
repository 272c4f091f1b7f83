// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Trouble that a program has met with, for its metrics: the log tells of it only once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::metrics::Metric;

/// What was noted since the program started.
#[derive(Debug)]
pub struct Health {
    started: SystemTime,
    pressure_evicted: AtomicU64,
    group_is_short: AtomicBool,
    recovery_failures: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            started: SystemTime::now(),
            pressure_evicted: AtomicU64::new(0),
            group_is_short: AtomicBool::new(false),
            recovery_failures: AtomicU64::new(0),
        }
    }
}

impl Health {
    /// So many pages were evicted because tasks waited for memory.
    pub fn evicted(&self, pages: u64) {
        self.pressure_evicted.fetch_add(pages, Relaxed);
    }

    /// Whether the control group has hardly any memory left.
    pub fn set_group_short(&self, is_short: bool) {
        self.group_is_short.store(is_short, Relaxed);
    }

    /// Pages of the program before this one could not be taken over, so many times.
    pub fn recovery_failed(&self, times: u64) {
        self.recovery_failures.fetch_add(times, Relaxed);
    }

    /// What Prometheus's own clients say of a process, to be found under `process_`.
    pub(crate) fn of_process(&self) -> Metric {
        let started = self.started.duration_since(UNIX_EPOCH);
        let help = "Start time of the process since unix epoch in seconds.";
        let started = started.map_or(0, |time| time.as_secs());
        Metric::gauge("start_time_seconds", started, help)
    }

    /// All else.
    pub(crate) fn metrics(&self) -> [Metric; 3] {
        [
            Metric::counter(
                "pressure_evicted_pages",
                self.pressure_evicted.load(Relaxed),
                "Ephemeral pages evicted because tasks waited for the host's memory.",
            ),
            Metric::gauge(
                "group_short",
                self.group_is_short.load(Relaxed).into(),
                "1 while the program's control group has hardly any memory left: puts are refused.",
            ),
            Metric::counter(
                "recovery_failures",
                self.recovery_failures.load(Relaxed),
                "Times that pages of the program before this one could not be taken over.",
            ),
        ]
    }
}
