// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Samples, and what is said of them.

use std::time::{Duration, Instant};
use tmem_work::histogram::Histogram;

/// Times of single operations.
#[derive(Default)]
pub(crate) struct Samples(Histogram);

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
        self.keep(start.elapsed());
    }

    /// Keeps a time.
    pub(crate) fn keep(&mut self, time: Duration) {
        self.0.add(time);
    }

    /// The time that `permille` of a thousand samples did not exceed, in microseconds.
    pub(crate) fn permille(&self, permille: u16) -> f64 {
        let time = self.0.quantile(permille);
        time.map_or(f64::NAN, |time| time.as_nanos() as f64 / 1e3)
    }

    /// Median in microseconds.
    pub(crate) fn median(&self) -> f64 {
        self.permille(500)
    }

    /// 99th percentile in microseconds.
    pub(crate) fn p99(&self) -> f64 {
        self.permille(990)
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.count() == 0
    }
}

/// The value in the middle, or halfway between the two that are; `None` if there are none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some(lower.midpoint(*upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([1.0, 4.0]), Some(2.5));
        assert_eq!(median([]), None);
        assert!(Samples::default().median().is_nan());
    }
}
