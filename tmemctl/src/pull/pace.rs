// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Not faster than so many bytes in a second.

use std::thread;
use std::time::{Duration, Instant};

/// How often is looked at the clock, in bytes.
const STEP: u64 = 1 << 20;

/// See the module; tells of progress.
pub(super) struct Pace<F> {
    rate: u64,
    start: Instant,
    progress: F,
}

impl<F: FnMut(u64)> Pace<F> {
    pub(super) fn new(rate: u64, progress: F) -> Self {
        Self {
            rate: rate.max(1),
            start: Instant::now(),
            progress,
        }
    }

    /// Whether `done` bytes are a step.
    pub(super) fn is_due(&self, done: u64) -> bool {
        done.is_multiple_of(STEP)
    }

    /// Waits until `done` bytes are not too many for the time that has passed.
    pub(super) fn keep(&mut self, done: u64) {
        if !self.is_due(done) {
            return;
        }
        (self.progress)(done);
        thread::sleep(due(done, self.rate).saturating_sub(self.start.elapsed()));
    }
}

/// How long `done` bytes are to take.
fn due(done: u64, rate: u64) -> Duration {
    let millis = u128::from(done) * 1000 / u128::from(rate);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_as_long_as_the_rate_says() {
        assert_eq!(due(0, 1), Duration::ZERO);
        assert_eq!(due(64 << 20, 32 << 20), Duration::from_secs(2));
        assert_eq!(due(1 << 20, 32 << 20), Duration::from_millis(31));
        assert_eq!(due(u64::MAX, 1), Duration::from_millis(u64::MAX));
    }
}
