// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What one reading of files came to.

use std::time::Duration;

use tmem_probe::order::Answer;

use super::counts::{Origin, PAGE, Source};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// From the first piece to the last.
    pub(super) seconds: f64,
    /// MB in a second.
    pub(super) speed: f64,
    /// Of pieces, in microseconds.
    pub(super) median: f64,
    /// Of pieces, in microseconds.
    pub(super) p99: f64,
    /// CPU time of the guest's kernel for a page, in microseconds.
    pub(super) guest_cpu: f64,
    /// CPU time of the back end for a page, in microseconds.
    pub(super) host_cpu: f64,
    /// The part of the pages that came from the host.
    pub(super) from_host: f64,
}

impl Reading {
    pub(super) fn new(
        answer: &Answer,
        origin: Origin,
        guest_cpu: Duration,
        host_cpu: Duration,
    ) -> Self {
        let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
        let quantile = |permille| answer.times.quantile(permille).map_or(f64::NAN, micros);
        let seconds = answer.nanoseconds as f64 / 1e9;
        let pages = answer.bytes as f64 / PAGE as f64;
        Self {
            seconds,
            speed: answer.bytes as f64 / 1e6 / seconds,
            median: quantile(500),
            p99: quantile(990),
            guest_cpu: micros(guest_cpu) / pages,
            host_cpu: micros(host_cpu) / pages,
            from_host: origin.share(Source::Host, answer.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_says_what_a_page_costs() {
        let mut answer = Answer {
            count: 100,
            bytes: 100 * PAGE * 4,
            nanoseconds: 20_000_000,
            ..Answer::default()
        };
        for micros in 1..=100 {
            answer.times.add(Duration::from_micros(micros));
        }
        let origin = Origin::new((0, 400), None);
        let (guest, host) = (Duration::from_millis(4), Duration::from_millis(2));
        let reading = Reading::new(&answer, origin, guest, host);
        assert!((reading.seconds - 0.02).abs() < 1e-9, "{reading:?}");
        assert!((reading.speed - 81.92).abs() < 0.01, "{reading:?}");
        assert!((reading.median - 50.0).abs() < 0.1, "{reading:?}");
        assert!((reading.p99 - 99.0).abs() < 0.1, "{reading:?}");
        assert!((reading.guest_cpu - 10.0).abs() < 0.01, "{reading:?}");
        assert!((reading.host_cpu - 5.0).abs() < 0.01, "{reading:?}");
        assert!(reading.from_host.abs() < 1e-9, "{reading:?}");
    }
}
