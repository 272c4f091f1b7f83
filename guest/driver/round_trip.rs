// SPDX-License-Identifier: GPL-2.0

//! How long answers take: the estimator of Jacobson and Karels ("Congestion avoidance and control",
//! 1988), as RFC 6298 has it. Times are in nanoseconds.

/// One longer than this many times the longest wait counts as that long: one that is late for a
/// reason of its own does not hide the others for long.
const OUTLIER: u64 = 4;

/// What is known of how long answers take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoundTrip {
    /// 8 times the smoothed time; 0 before the first answer.
    smoothed: u64,
    /// 4 times the smoothed deviation from it.
    deviation: u64,
}

impl RoundTrip {
    /// An answer took so long.
    pub(crate) fn learn(&mut self, time: u64, most: u64) {
        let time = time.min(most.saturating_mul(OUTLIER));
        if self.smoothed == 0 {
            self.smoothed = time.saturating_mul(8);
            self.deviation = time.saturating_mul(2);
            return;
        }
        let off = time.abs_diff(self.smoothed / 8);
        self.smoothed = self.smoothed - self.smoothed / 8 + time;
        self.deviation = self.deviation - self.deviation / 4 + off;
    }

    /// How long to look for the next answer, at most `most`: 0 when it most likely takes longer.
    pub(crate) fn patience(&self, most: u64) -> u64 {
        let likely = self.smoothed / 8;
        if likely > most {
            return 0;
        }
        likely.saturating_add(self.deviation).min(most)
    }
}
