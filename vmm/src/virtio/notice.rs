// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Log lines about what the host fails at on a device's behalf: few, whatever
//! the guest does to provoke them.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How often a device's troubles are logged. Its counters tell the rest.
const INTERVAL: Duration = Duration::from_secs(10);

/// Writes at most one line per [`INTERVAL`].
#[derive(Debug)]
pub(super) struct Notices {
    device: String,
    quiet_until: Option<Instant>,
    suppressed: u64,
}

impl Notices {
    /// About `device`.
    pub(super) fn new(device: String) -> Self {
        Self {
            device,
            quiet_until: None,
            suppressed: 0,
        }
    }

    /// Logs that `what` failed because of `error`, or counts it for the next
    /// line. Returns whether a line was written.
    pub(super) fn failed(&mut self, what: &str, error: impl Display) -> bool {
        let now = Instant::now();
        if self.quiet_until.is_some_and(|until| now < until) {
            self.suppressed += 1;
            return false;
        }
        self.quiet_until = now.checked_add(INTERVAL);
        let more = std::mem::take(&mut self.suppressed);
        let device = &self.device;
        log::error!("{device}: {what} failed: {error} ({more} more failures since the last line)");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_failures_write_one_line() {
        let mut notices = Notices::new("vda".into());
        let written = (0..1_000_000).filter(|_| notices.failed("a read", "it broke"));
        let lines = written.count();
        assert!(lines <= 2, "{lines} lines");
    }
}
