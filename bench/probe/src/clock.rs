// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Times of single requests, by the CPU's time stamp counter: in a guest of User-Mode Linux a
//! system call for the time takes as long as what is to be timed.

use std::arch::x86_64::{__rdtscp, _mm_lfence};
use std::time::{Duration, Instant};

/// How long the counter is compared with the system's clock.
const LOOK: Duration = Duration::from_millis(40);

/// The counter, and how fast it runs.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    nanos_per_tick: f64,
}

impl Clock {
    /// Takes a moment to find out how fast the counter runs.
    #[must_use]
    pub fn new() -> Self {
        let (start, first) = (Instant::now(), now());
        std::thread::sleep(LOOK);
        let (elapsed, last) = (start.elapsed(), now());
        let ticks = last.saturating_sub(first).max(1);
        Self {
            nanos_per_tick: elapsed.as_nanos() as f64 / ticks as f64,
        }
    }

    /// The time between two readings.
    #[must_use]
    pub fn between(&self, first: u64, last: u64) -> Duration {
        let ticks = last.saturating_sub(first);
        Duration::from_secs_f64(ticks as f64 * self.nanos_per_tick / 1e9)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// A reading of the counter.
#[must_use]
pub fn now() -> u64 {
    let mut cpu = 0;
    // SAFETY: all that the instruction writes is `cpu`, and every CPU of x86-64 that is still
    // in use has it.
    let ticks = unsafe { __rdtscp(&raw mut cpu) };
    // SAFETY: it has no operands. What follows is not done before the counter was read.
    unsafe { _mm_lfence() };
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_takes_its_time() {
        let clock = Clock::new();
        let (start, first) = (Instant::now(), now());
        std::thread::sleep(Duration::from_millis(5));
        let last = now();
        let elapsed = start.elapsed();
        let counted = clock.between(first, last);
        assert!(counted >= Duration::from_millis(4), "{counted:?}");
        assert!(counted <= elapsed * 2, "{counted:?} of {elapsed:?}");
        assert_eq!(clock.between(last, first), Duration::ZERO);
    }
}
