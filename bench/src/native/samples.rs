// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What single measures of a subject came to, round by round. Rounds of all subjects are
//! in turn, so what disturbs one disturbs its neighbours; a ratio is that of a round, and what is
//! said is the median of rounds.

use crate::samples::median;
use std::time::Duration;
use tmem_probe::order::Answer;

/// One measure of one subject in one round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Round {
    /// Median, in microseconds.
    pub(super) median: f64,
    /// 99th percentile, in microseconds.
    pub(super) p99: f64,
    /// Requests in a second.
    pub(super) rate: f64,
    /// MB in a second.
    pub(super) speed: f64,
    /// CPU time of the guest's kernel for a request, in microseconds.
    pub(super) guest_cpu: f64,
    /// CPU time of the back end for a request, in microseconds.
    pub(super) host_cpu: f64,
    /// Writes in a second, beside the reads.
    pub(super) writes: f64,
}

impl Round {
    /// Of an answer, and the CPU time meanwhile.
    pub(super) fn new(answer: &Answer, guest_cpu: Duration, host_cpu: Duration) -> Self {
        let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
        let quantile = |permille| answer.times.quantile(permille).map_or(f64::NAN, micros);
        let seconds = answer.nanoseconds as f64 / 1e9;
        let requests = (answer.count + answer.written).max(1) as f64;
        Self {
            median: quantile(500),
            p99: quantile(990),
            rate: answer.count as f64 / seconds,
            speed: answer.bytes as f64 / 1e6 / seconds,
            guest_cpu: micros(guest_cpu) / requests,
            host_cpu: micros(host_cpu) / requests,
            writes: answer.written as f64 / seconds,
        }
    }
}

/// The rounds of one measure of one subject.
#[derive(Clone, Debug)]
pub(super) struct Rounds<T = Round>(Vec<T>);

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Rounds<T> {
    pub(super) fn push(&mut self, round: T) {
        self.0.push(round);
    }

    /// The median of what `value` takes of each round.
    pub(super) fn median(&self, value: impl Fn(&T) -> f64) -> f64 {
        median(self.0.iter().map(value)).unwrap_or(f64::NAN)
    }

    /// The median over rounds of the ratio of `value` here to `of` there.
    pub(super) fn ratio(
        &self,
        value: impl Fn(&T) -> f64,
        other: &Self,
        of: impl Fn(&T) -> f64,
    ) -> f64 {
        let pairs = self.0.iter().zip(&other.0);
        median(pairs.map(|(own, other)| value(own) / of(other))).unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(medians: &[f64]) -> Rounds {
        let round = |median: &f64| Round {
            median: *median,
            ..Round::default()
        };
        Rounds(medians.iter().map(round).collect())
    }

    #[test]
    fn a_round_says_what_a_request_costs() {
        let mut answer = Answer {
            count: 100,
            bytes: 409_600,
            nanoseconds: 2_000_000,
            ..Answer::default()
        };
        for micros in 1..=100 {
            answer.times.add(Duration::from_micros(micros));
        }
        let round = Round::new(&answer, Duration::from_millis(1), Duration::from_millis(2));
        assert!((round.median - 50.0).abs() < 0.1, "{round:?}");
        assert!((round.p99 - 99.0).abs() < 0.1, "{round:?}");
        assert!((round.rate - 50_000.0).abs() < 0.1, "{round:?}");
        assert!((round.speed - 204.8).abs() < 0.1, "{round:?}");
        assert!((round.guest_cpu - 10.0).abs() < 0.01, "{round:?}");
        assert!((round.host_cpu - 20.0).abs() < 0.01, "{round:?}");
    }

    #[test]
    fn a_disturbed_round_changes_no_ratio() {
        // The machine was busy in the second round, for both.
        let (ours, others) = (rounds(&[2.0, 40.0, 2.2]), rounds(&[4.0, 80.0, 4.4]));
        let of = |round: &Round| round.median;
        assert!((ours.ratio(of, &others, of) - 0.5).abs() < 1e-9);
        assert!((ours.median(of) - 2.2).abs() < 1e-9);
        assert!(<Rounds>::default().median(of).is_nan());
    }
}
