// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reports of guest mistakes: few, whatever the guest does.
//!
//! [`Notices`] is the only way out of the crate for a sentence, so that a log
//! flood cannot be written by accident.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Most frequent a VM's mistakes are reported, in milliseconds. The counters
/// tell the rest.
const INTERVAL_MS: u64 = 10_000;

/// Hears a sentence about a mistake of the driver, for a log. Called on the thread
/// that serves the queue, so it must not block; at most every 10 seconds.
pub type Report = Box<dyn Fn(fmt::Arguments<'_>) + Send + Sync>;

/// Reports at most one mistake per [`INTERVAL_MS`].
pub struct Notices {
    name: String,
    report: Option<Report>,
    start: Instant,
    /// Milliseconds after `start` before which nothing is reported.
    quiet_until: AtomicU64,
    suppressed: AtomicU64,
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notices")
            .field("name", &self.name)
            .field("suppressed", &self.suppressed)
            .finish_non_exhaustive()
    }
}

impl Notices {
    /// About the VM `name`; nobody hears of it yet.
    pub fn new(name: String) -> Self {
        Self {
            name,
            report: None,
            start: Instant::now(),
            quiet_until: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// From now on `report` hears.
    pub fn set_report(&mut self, report: Report) {
        self.report = Some(report);
    }

    /// Reports that the driver did `what`, or counts it for the next report.
    pub fn driver_mistake(&self, what: &'static str) {
        let Some(report) = &self.report else {
            return;
        };
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let until = self.quiet_until.load(Relaxed);
        let ours = now >= until
            && self
                .quiet_until
                .compare_exchange(until, now.saturating_add(INTERVAL_MS), Relaxed, Relaxed)
                .is_ok();
        if !ours {
            self.suppressed.fetch_add(1, Relaxed);
            return;
        }
        let more = self.suppressed.swap(0, Relaxed);
        report(format_args!(
            "{}: the driver made a mistake: {what} ({more} more since the last such line)",
            self.name
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_million_mistakes_write_one_line() {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let heard = lines.clone();
        let mut notices = Notices::new("vm".into());
        notices.driver_mistake("nobody listens");
        notices.set_report(Box::new(move |line| {
            heard.lock().unwrap().push(line.to_string());
        }));
        for _ in 0..1_000_000 {
            notices.driver_mistake("test");
        }
        let lines = lines.lock().unwrap();
        assert!((1..=2).contains(&lines.len()), "{lines:?}");
        assert_eq!(
            lines[0],
            "vm: the driver made a mistake: test (0 more since the last such line)"
        );
        assert!(notices.suppressed.load(Relaxed) >= 999_998 || lines.len() == 2);
    }
}
