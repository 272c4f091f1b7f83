// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Log lines about guest mistakes: few, whatever the guest does.
//!
//! This is the only place of the crate that logs, and [`Notices`] is the only
//! way to it, so that a log flood cannot be written by accident.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Most frequent a VM's mistakes are logged, in milliseconds. The counters
/// tell the rest.
const INTERVAL_MS: u64 = 10_000;

/// Writes at most one line per [`INTERVAL_MS`].
#[derive(Debug)]
pub(super) struct Notices {
    name: String,
    start: Instant,
    /// Milliseconds after `start` before which nothing is logged.
    quiet_until: AtomicU64,
    suppressed: AtomicU64,
}

impl Notices {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            start: Instant::now(),
            quiet_until: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Logs that the driver did `what`, or counts it for the next line.
    /// Returns whether a line was written.
    pub(super) fn driver_mistake(&self, what: &'static str) -> bool {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let until = self.quiet_until.load(Relaxed);
        let ours = now >= until
            && self
                .quiet_until
                .compare_exchange(until, now.saturating_add(INTERVAL_MS), Relaxed, Relaxed)
                .is_ok();
        if !ours {
            self.suppressed.fetch_add(1, Relaxed);
            return false;
        }
        let more = self.suppressed.swap(0, Relaxed);
        log::warn!(
            "{}: the driver made a mistake: {what} ({more} more since the last such line)",
            self.name
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_mistakes_write_one_line() {
        let notices = Notices::new("vm".into());
        let lines = (0..1_000_000)
            .filter(|_| notices.driver_mistake("test"))
            .count();
        assert!(lines <= 2, "{lines} lines");
        assert!(notices.suppressed.load(Relaxed) >= 999_998);
    }
}
