// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How long things take, in buckets whose bounds are fixed: each is twice the one before,
//! from a microsecond to about a second.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets that have an upper bound.
const BOUNDED: usize = 21;

/// A histogram that any thread records in, without lock or allocation: two relaxed additions.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDED],
    /// What took longer than the last bound.
    beyond: AtomicU64,
    nanoseconds: AtomicU64,
}

/// What a histogram has recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// Upper bound of each bucket, and how many took at most as long. The last bound is
    /// `None`: all of them did not take longer.
    pub buckets: Vec<(Option<Duration>, u64)>,
    /// How long they took together.
    pub sum: Duration,
}

impl Recorded {
    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |(_, count)| *count)
    }
}

/// The upper bound of the bucket `nth`.
fn bound(nth: usize) -> Duration {
    Duration::from_micros(1 << nth)
}

/// The bucket of what took so many nanoseconds, or a number that is none's.
fn bucket(nanoseconds: u64) -> usize {
    let rest = nanoseconds.saturating_sub(1) / 1000;
    (u64::BITS - rest.leading_zeros()) as usize
}

impl Histogram {
    /// Something took so long.
    pub fn record(&self, took: Duration) {
        // Wide divisions would cost more than all else here.
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.buckets.get(bucket(nanoseconds));
        bucket.unwrap_or(&self.beyond).fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    /// What was recorded, or `None` if nothing was.
    pub fn get(&self) -> Option<Recorded> {
        let sum = Duration::from_nanos(self.nanoseconds.load(Relaxed));
        let mut so_far = 0;
        let mut count = |counter: &AtomicU64| {
            so_far += counter.load(Relaxed);
            so_far
        };
        let bounded = self.buckets.iter().enumerate();
        let mut buckets: Vec<_> = bounded
            .map(|(nth, counter)| (Some(bound(nth)), count(counter)))
            .collect();
        buckets.push((None, count(&self.beyond)));
        (so_far > 0).then_some(Recorded { buckets, sum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_what_took_longer_than_the_one_before_and_not_longer_than_its_bound() {
        let last = BOUNDED - 1;
        for nth in 0..BOUNDED {
            let longest = u64::try_from(bound(nth).as_nanos()).unwrap();
            assert_eq!(bucket(longest), nth);
            assert_eq!(bucket(longest + 1), nth + 1);
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bound(0), Duration::from_micros(1));
        assert!(bound(last) >= Duration::from_secs(1));
        assert!(bucket(u64::MAX) > last);
    }

    #[test]
    fn buckets_add_up() {
        let histogram = Histogram::default();
        assert_eq!(histogram.get(), None);
        for micros in [0, 1, 2, 3, 5_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let recorded = histogram.get().unwrap();
        let of = |nth: usize| recorded.buckets[nth].1;
        assert_eq!((of(0), of(1), of(2), of(BOUNDED - 1)), (2, 3, 4, 4));
        assert_eq!(recorded.buckets.last(), Some(&(None, 5)));
        assert_eq!(recorded.count(), 5);
        assert_eq!(recorded.sum, Duration::from_micros(5_000_006));
    }
}
