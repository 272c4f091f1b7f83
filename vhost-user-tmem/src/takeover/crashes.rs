// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How often daemons have crashed while they served a machine. A guest that can have that
//! happen would have it again and again, and all other machines wait meanwhile.

use std::time::{Duration, SystemTime};

/// After how long a crash counts no more.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// How long the machine is not served after the second crash; twice as long after each
/// further one, but not longer than this.
const REST: Duration = Duration::from_secs(10);
const MOST_REST: Duration = Duration::from_secs(3600);

/// Seconds have this many bits of a word.
const BITS: u32 = 48;

/// Crashes of daemons on threads of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crashes {
    /// How many there were lately.
    pub(crate) count: u16,
    /// When the last one was, in seconds of the system's clock.
    last: u64,
}

impl Crashes {
    /// As they are noted.
    pub(super) fn of(word: u64) -> Self {
        Self {
            count: u16::try_from(word >> BITS).unwrap_or(u16::MAX),
            last: word & ((1 << BITS) - 1),
        }
    }

    /// To be noted.
    pub(super) fn word(self) -> u64 {
        u64::from(self.count) << BITS | (self.last & ((1 << BITS) - 1))
    }

    /// One more. To be called where nothing may be locked or allocated.
    pub(super) fn and_one(self) -> Self {
        self.and_one_at(now())
    }

    fn and_one_at(self, now: u64) -> Self {
        let is_forgotten = now.saturating_sub(self.last) > FORGOTTEN.as_secs();
        let before = if is_forgotten { 0 } else { self.count };
        Self {
            count: before.saturating_add(1),
            last: now,
        }
    }

    /// How long the machine is not served from now on.
    pub(crate) fn rest(self) -> Duration {
        self.rest_at(now())
    }

    fn rest_at(self, now: u64) -> Duration {
        let Some(doublings) = self.count.checked_sub(2) else {
            return Duration::ZERO;
        };
        let rest = REST.saturating_mul(2u32.saturating_pow(doublings.into()));
        // Never longer than that, should the clock be set back.
        let since = Duration::from_secs(now.saturating_sub(self.last));
        rest.min(MOST_REST).saturating_sub(since)
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: u64 = 1_800_000_000;

    fn after(times: &[u64]) -> Crashes {
        let none = Crashes::default();
        times
            .iter()
            .fold(none, |crashes, time| crashes.and_one_at(BEGIN + time))
    }

    #[test]
    fn rest_grows_with_each_crash() {
        let rest = |times: &[u64], now: u64| after(times).rest_at(BEGIN + now).as_secs();
        assert_eq!(rest(&[], 0), 0);
        assert_eq!(rest(&[0], 0), 0);
        assert_eq!(rest(&[0, 1], 1), 10);
        assert_eq!(rest(&[0, 1], 6), 5);
        assert_eq!(rest(&[0, 1], 12), 0);
        assert_eq!(rest(&[0, 1, 20], 20), 20);
        assert_eq!(rest(&[0; 12], 0), 3600);
        assert_eq!(rest(&[0; 100], 0), 3600);
        // A clock that was set back.
        assert_eq!(after(&[5, 6]).rest_at(3).as_secs(), 10);
    }

    #[test]
    fn crashes_are_forgotten_after_a_day() {
        assert_eq!(after(&[0, 1, 2]).count, 3);
        assert_eq!(after(&[0, 1, 2 + 24 * 3600]).count, 1);
    }

    #[test]
    fn they_are_read_as_they_were_noted() {
        for crashes in [Crashes::default(), after(&[3]), after(&[1; 70_000])] {
            assert_eq!(Crashes::of(crashes.word()), crashes);
        }
    }
}
