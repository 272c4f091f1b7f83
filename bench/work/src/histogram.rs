// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How long many things of one sort took.

use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Buckets in which times are told apart that differ by less than a factor of two.
const PARTS: u64 = 8;

/// Times, each to an eighth of itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Histogram {
    /// How many, by the bucket's largest time in nanoseconds.
    counts: BTreeMap<u64, u64>,
}

impl Histogram {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        *self.counts.entry(bucket(nanoseconds)).or_default() += 1;
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self) {
        for (most, count) in &other.counts {
            *self.counts.entry(*most).or_default() += count;
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The time that `permille` of a thousand did not exceed; none if there are none.
    pub fn quantile(&self, permille: u64) -> Option<Duration> {
        let wanted = (self.count() * permille).div_ceil(1000).max(1);
        let mut sum = 0;
        self.counts.iter().find_map(|(most, count)| {
            sum += count;
            (sum >= wanted).then(|| Duration::from_nanos(*most))
        })
    }
}

/// The largest time of the bucket that `nanoseconds` is in.
fn bucket(nanoseconds: u64) -> u64 {
    let width = (nanoseconds / PARTS)
        .checked_ilog2()
        .map_or(1, |bits| 1 << bits);
    nanoseconds | (width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_known_to_an_eighth() {
        for time in [0, 1, 7, 8, 100, 4096, 12_345, 1 << 40] {
            let most = bucket(time);
            assert!(most >= time, "{time}: {most}");
            assert!(most - time <= time / PARTS, "{time}: {most}");
        }
    }

    #[test]
    fn quantiles_are_those_of_all() {
        let mut one = Histogram::default();
        assert_eq!(one.quantile(500), None);
        for _ in 0..990 {
            one.add(Duration::from_nanos(100));
        }
        let mut other = Histogram::default();
        for _ in 0..10 {
            other.add(Duration::from_micros(100));
        }
        one.merge(&other);
        assert!(one.quantile(990).unwrap() < Duration::from_nanos(113));
        assert!(one.quantile(991).unwrap() >= Duration::from_micros(100));
    }
}
