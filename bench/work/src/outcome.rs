// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a piece of work comes to.

use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;

/// What was read.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Files, or rows.
    pub count: u64,
    /// In them.
    pub bytes: u64,
    /// Of their content.
    pub sum: u64,
    /// On the clock of the machine it was done on.
    pub microseconds: u64,
}

impl Outcome {
    /// Whether the same was read.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.count, self.bytes, self.sum) == (other.count, other.bytes, other.sum)
    }

    pub(crate) fn timed(mut self, time: Duration) -> Self {
        self.microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self
    }
}
