// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a volume in a cloud is allowed: so many operations and so many bytes in
//! a second.

use std::time::Duration;

/// What counts as one operation at most, in bytes; larger ones count as
/// several. As Amazon's EBS has it.
const OPERATION: u64 = 256 * 1024;

/// How far a volume that was idle may get ahead, so that a timer that is late
/// costs nothing. No volume's burst.
const SLACK: Duration = Duration::from_millis(1);

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Operations in a second.
    pub(crate) operations: u32,
    /// Bytes in a second.
    pub(crate) bytes: u32,
}

impl Limit {
    /// The smallest gp3 volume of Amazon's EBS.
    pub(crate) const CLOUD: Self = Self {
        operations: 3000,
        bytes: 125_000_000,
    };
}

/// Holds operations to a limit. Times are since an instant of the caller's.
#[derive(Debug)]
pub(crate) struct Pace {
    limit: Limit,
    /// When the next operation may begin, by operations and by bytes.
    next: [Duration; 2],
}

impl Pace {
    pub(crate) fn new(limit: Limit) -> Self {
        Self {
            limit,
            next: [Duration::ZERO; 2],
        }
    }

    /// When an operation on `bytes`, asked for at `now`, may begin.
    pub(crate) fn admit(&mut self, now: Duration, bytes: u64) -> Duration {
        let share = |count: u64, rate: u32| {
            Duration::from_nanos(count.saturating_mul(1_000_000_000) / u64::from(rate.max(1)))
        };
        let takes = [
            share(bytes.div_ceil(OPERATION).max(1), self.limit.operations),
            share(bytes, self.limit.bytes),
        ];
        let begins = self.next.into_iter().fold(now, Duration::max);
        for (next, takes) in self.next.iter_mut().zip(takes) {
            *next = (*next).max(now.saturating_sub(SLACK)) + takes;
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds that `count` operations take that are asked for at once.
    fn takes(count: u32, bytes: u64) -> f64 {
        let start = Duration::from_secs(5);
        let mut pace = Pace::new(Limit::CLOUD);
        let last = (0..count).map(|_| pace.admit(start, bytes)).last();
        (last.unwrap() - start).as_secs_f64()
    }

    #[test]
    fn small_operations_are_held_to_their_number() {
        assert!((0.99..=1.0).contains(&takes(3000, 4096)));
    }

    #[test]
    fn large_operations_are_held_to_their_bytes() {
        let seconds = takes(1000, 1 << 20);
        assert!((8.3..8.4).contains(&seconds), "{seconds}");
    }

    #[test]
    fn one_after_the_other_is_as_fast() {
        let mut pace = Pace::new(Limit::CLOUD);
        let mut now = Duration::ZERO;
        for _ in 0..3000 {
            // The timer is late each time.
            now = pace.admit(now, 4096) + Duration::from_micros(90);
        }
        assert!(now < Duration::from_millis(1010), "{now:?}");
    }

    #[test]
    fn who_was_idle_does_not_save_up() {
        let mut pace = Pace::new(Limit::CLOUD);
        pace.admit(Duration::ZERO, 4096);
        let later = Duration::from_secs(60);
        let last = (0..3000).map(|_| pace.admit(later, 4096)).last().unwrap();
        assert!(last - later > Duration::from_millis(995));
    }
}
