// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the control group holds, looked at from outside, all the time.

use crate::density::budget::Budget;
use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use serde::Serialize;
use std::sync::Arc;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;
use tmem_host::group::Held;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(500);

/// One look.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    /// Since the first guest's boot.
    pub(crate) seconds: f64,
    /// All, in bytes.
    pub(crate) held: u64,
    /// Of that, the page cache of files on disks.
    pub(crate) cached: u64,
}

/// A thread that looks.
pub(crate) struct Sampler {
    /// Dropped, it ends the thread.
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    pub(crate) fn start(budget: &Arc<Budget>, start: Instant) -> Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let budget = Arc::clone(budget);
        let thread = std::thread::Builder::new()
            .name("samples".into())
            .spawn(move || {
                let mut samples = Vec::new();
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(PERIOD) {
                    // A look that fails is a gap in the plot.
                    if let Ok(Held { bytes, cached, .. }) = budget.held() {
                        samples.push(Sample {
                            seconds: start.elapsed().as_secs_f64(),
                            held: bytes,
                            cached,
                        });
                    }
                }
                samples
            })
            .context("cannot start a thread")?;
        Ok(Self { stop, thread })
    }

    /// Ends it; gives back all that was seen.
    ///
    /// # Errors
    /// The thread panicked.
    pub(crate) fn end(self) -> Result<Vec<Sample>> {
        drop(self.stop);
        let samples = self.thread.join();
        samples.map_err(|_| anyhow!("the thread that looks at memory has panicked"))
    }
}

/// The mean and the most of what `of` gives for samples up to `end` seconds.
pub(crate) fn mean_and_peak(
    samples: &[Sample],
    end: f64,
    of: impl Fn(&Sample) -> u64,
) -> (u64, u64) {
    let mut count = 0;
    let (mut sum, mut peak) = (0, 0);
    for sample in samples.iter().filter(|sample| sample.seconds <= end) {
        let value = of(sample);
        sum += value;
        peak = peak.max(value);
        count += 1;
    }
    (sum.checked_div(count).unwrap_or_default(), peak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_after_the_end_does_not_count() {
        let sample = |seconds, held| Sample {
            seconds,
            held,
            cached: 0,
        };
        let samples = [sample(0.5, 10), sample(1.0, 20), sample(1.5, 90)];
        assert_eq!(mean_and_peak(&samples, 1.0, |s| s.held), (15, 20));
        assert_eq!(mean_and_peak(&[], 1.0, |s| s.held), (0, 0));
    }
}
