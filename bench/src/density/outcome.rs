// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is known of a variant in the end.

use crate::density::samples::Sample;
use crate::density::way::Way;
use serde::Serialize;
use tmem_work::histogram::Histogram;

/// A guest that did not get to its end.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Loss {
    pub(crate) guest: usize,
    /// Since the first guest's boot.
    pub(crate) seconds: f64,
    pub(crate) why: String,
}

/// How the memory of a guest came back after its load had ended, and went again.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Return {
    /// What the guest had at its load's end, beyond what it had after its boot, in bytes.
    pub(crate) used: u64,
    /// Seconds until the group held less by half of that; none if it never did.
    pub(crate) half_s: Option<f64>,
    /// By how much less it held in the end, in bytes.
    pub(crate) back: u64,
    /// Seconds that the first touches of all documents took afterwards.
    pub(crate) touch_s: f64,
    /// The same again, at once.
    pub(crate) again_s: f64,
}

/// All that is known of a variant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) way: Way,
    pub(crate) finished: usize,
    pub(crate) losses: Vec<Loss>,
    /// What kernels of guests complained of that were not lost.
    pub(crate) complaints: Vec<String>,
    /// From the first guest's boot to the end of the last busy phase.
    pub(crate) seconds: f64,
    /// Of busy phases only, on the average; of those that came to their end.
    pub(crate) busy_s: f64,
    pub(crate) phases: u64,
    pub(crate) host_kills: u64,
    pub(crate) guest_kills: usize,
    /// First touches of documents after a guest was idle.
    pub(crate) touches: Histogram,
    pub(crate) mean: u64,
    pub(crate) peak: u64,
    /// Without the page cache of files on disks.
    pub(crate) mean_uncached: u64,
    pub(crate) comes_back: Option<Return>,
    /// Bytes of pages in swap at the end, and what they take in the budget.
    pub(crate) swapped: u64,
    pub(crate) swapped_takes: Option<u64>,
    pub(crate) samples: Vec<Sample>,
}
