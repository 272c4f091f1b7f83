// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Samples of one operation, and what is said of them.

use std::time::Instant;

/// Times of single operations, in nanoseconds.
#[derive(Default)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    /// Runs `operation` once and keeps how long it took.
    pub(crate) fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = operation();
        self.push(start);
        result
    }

    /// Keeps the time since `start`.
    pub(crate) fn push(&mut self, start: Instant) {
        self.0
            .push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }

    /// The smallest sample that `percent` of all do not exceed, in microseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(rank).map_or(f64::NAN, |ns| *ns as f64 / 1e3)
    }

    /// Median in microseconds.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// 99th percentile in microseconds.
    pub(crate) fn p99(&self) -> f64 {
        self.percentile(99)
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples = Samples((1..=100).map(|us| us * 1000).rev().collect());
        assert_eq!(samples.median(), 50.0);
        assert_eq!(samples.p99(), 99.0);
        assert!(Samples::default().median().is_nan());
    }
}
