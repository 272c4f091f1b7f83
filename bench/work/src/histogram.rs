// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How long many things of one sort took.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Significant decimal digits of a time that are kept.
const DIGITS: u8 = 3;

/// Times in nanoseconds, each to a thousandth of itself (an HDR histogram).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(from = "Counts", into = "Counts")]
pub struct Histogram(hdrhistogram::Histogram<u64>);

impl Default for Histogram {
    #[expect(clippy::expect_used, reason = "the number of digits is a constant")]
    fn default() -> Self {
        Self(hdrhistogram::Histogram::new(DIGITS).expect("so many digits are allowed"))
    }
}

impl Histogram {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.add_many(nanoseconds, 1);
    }

    fn add_many(&mut self, nanoseconds: u64, count: u64) {
        // It grows as far as it has to, and takes every time.
        let _ = self.0.record_n(nanoseconds, count);
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that `permille` of a thousand did not exceed; none if there are none.
    pub fn quantile(&self, permille: u16) -> Option<Duration> {
        let quantile = f64::from(permille) / 1000.0;
        let is_any = !self.0.is_empty();
        is_any.then(|| Duration::from_nanos(self.0.value_at_quantile(quantile)))
    }
}

/// How it is written.
#[derive(Clone, Deserialize, Serialize)]
struct Counts {
    /// How many, by time in nanoseconds.
    counts: BTreeMap<u64, u64>,
}

impl From<Counts> for Histogram {
    fn from(Counts { counts }: Counts) -> Self {
        let mut histogram = Self::default();
        for (nanoseconds, count) in counts {
            histogram.add_many(nanoseconds, count);
        }
        histogram
    }
}

impl From<Histogram> for Counts {
    fn from(Histogram(histogram): Histogram) -> Self {
        let recorded = histogram.iter_recorded();
        let counts = recorded.map(|value| (value.value_iterated_to(), value.count_at_value()));
        Self {
            counts: counts.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(one.count(), 1000);
        assert_eq!(one.quantile(990), Some(Duration::from_nanos(100)));
        assert!(one.quantile(991) >= Some(Duration::from_micros(100)));
    }

    #[test]
    fn histogram_is_read_as_it_was_written() {
        let mut written = Histogram::default();
        for time in [0, 1, 100, 12_345, 1 << 40] {
            written.add(Duration::from_nanos(time));
        }
        let text = serde_json::to_string(&written).unwrap();
        let read: Histogram = serde_json::from_str(&text).unwrap();
        assert_eq!(read, written);
    }
}
