// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What was measured.

use super::{TARGET_BACK, TARGET_PAUSE};
use crate::report::Report;
use serde::Serialize;
use std::time::Duration;

/// How daemons end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// By SIGKILL, soon after they began.
    Killed,
    /// By SIGKILL, when they have served every page: the system has to unmap all of it.
    KilledWhole,
    /// By SIGTERM, when they have served every page.
    AskedWhole,
}

impl Way {
    /// As rows of tables begin, after the number of CPUs.
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "",
            Self::KilledWhole => ", all mapped",
            Self::AskedWhole => ", all mapped, SIGTERM",
        }
    }
}

/// What was seen of an end.
pub(super) struct End {
    /// Until the process had ended.
    pub(super) ended: Duration,
    /// From the start of the next until it served.
    pub(super) back: Duration,
    /// Without an answer.
    pub(super) pause: Duration,
}

/// Of all kills, in milliseconds.
#[derive(Serialize)]
pub(super) struct Times {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Times {
    fn of(times: impl Iterator<Item = Duration>) -> Option<Self> {
        let mut times: Vec<_> = times.map(|time| time.as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        // The least that so many of a hundred do not exceed.
        let percentile = |part: usize| {
            let rank = (times.len() * part).div_ceil(100).max(1);
            times.get(rank - 1).copied()
        };
        Some(Self {
            p50: percentile(50)?,
            p99: percentile(99)?,
            max: percentile(100)?,
        })
    }
}

/// Daemons on so many CPUs.
#[derive(Serialize)]
pub(super) struct Outcome {
    pub(super) cpus: usize,
    pub(super) way: Way,
    pub(super) held_bytes: u64,
    pub(super) pages: u64,
    pub(super) ends: usize,
    pub(super) ended: Times,
    pub(super) back: Times,
    /// Milliseconds for a GiB, of the median.
    pub(super) back_per_gib: f64,
    pub(super) pause: Times,
}

impl Outcome {
    pub(super) fn new(
        (cpus, way): (usize, Way),
        held: u64,
        pages: u64,
        ends: Vec<End>,
    ) -> Option<Self> {
        let back = Times::of(ends.iter().map(|end| end.back))?;
        Some(Self {
            cpus,
            way,
            held_bytes: held,
            pages,
            ends: ends.len(),
            ended: Times::of(ends.iter().map(|end| end.ended))?,
            back_per_gib: back.p50 / Self::gib(held),
            back,
            pause: Times::of(ends.iter().map(|end| end.pause))?,
        })
    }

    fn gib(bytes: u64) -> f64 {
        bytes as f64 / (1 << 30) as f64
    }

    /// GiB that are held.
    pub(super) fn held(&self) -> f64 {
        Self::gib(self.held_bytes)
    }

    pub(super) fn name(&self) -> String {
        let s = if self.cpus == 1 { "" } else { "s" };
        format!("{} CPU{s}{}", self.cpus, self.way.name())
    }

    /// One line, as soon as it is known.
    pub(super) fn line(&self) -> String {
        format!(
            "{}, {} ends: back after {:.0} ms, pause {:.0} ms, at most {:.0} ms",
            self.name(),
            self.ends,
            self.back.p50,
            self.pause.p50,
            self.pause.max
        )
    }

    pub(super) fn report(&self, report: &mut Report) {
        let name = self.name();
        report.metric(format!("{name}: held"), self.held(), "GiB");
        let rows = [
            ("until it has ended", &self.ended),
            ("started until it serves", &self.back),
            ("pause", &self.pause),
        ];
        for (row, times) in rows {
            report.metric(format!("{name}: {row}, median"), times.p50, "ms");
            report.metric(format!("{name}: {row}, p99"), times.p99, "ms");
            report.metric(format!("{name}: {row}, max"), times.max, "ms");
        }
        let per_gib = format!("{name}: started until it serves, for a GiB");
        report.metric(per_gib, self.back_per_gib, "ms");
        // Whatever is held: a smaller store has less time.
        let part = self.held() / 4.0;
        let back = format!("{name}: started until it serves, median");
        report.limit(
            &back,
            self.back.p50,
            "ms",
            (TARGET_BACK * 1e3 * part).round(),
        );
        let pause = format!("{name}: pause, p99");
        report.limit(
            &pause,
            self.pause.p99,
            "ms",
            (TARGET_PAUSE * 1e3 * part.max(1.0)).round(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let times = Times::of((1..=200).map(Duration::from_millis)).unwrap();
        assert_eq!((times.p50, times.p99, times.max), (100.0, 198.0, 200.0));
        let one = Times::of([Duration::from_millis(7)].into_iter()).unwrap();
        assert_eq!((one.p50, one.p99, one.max), (7.0, 7.0, 7.0));
        assert!(Times::of(std::iter::empty()).is_none());
    }
}
