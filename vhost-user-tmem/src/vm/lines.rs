// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Lines of the log that a front end can cause: so many, and then a count.

use std::time::{Duration, Instant};

/// Lines in [`PERIOD`].
const MOST: u32 = 20;

const PERIOD: Duration = Duration::from_secs(10);

/// How many lines were written lately.
#[derive(Debug, Default)]
pub(super) struct Lines {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Lines {
    /// Whether one more line may be written now.
    pub(super) fn may(&mut self, now: Instant) -> bool {
        let over = self
            .began
            .is_none_or(|began| now.saturating_duration_since(began) >= PERIOD);
        if over {
            self.began = Some(now);
            self.written = 0;
        }
        if self.written < MOST {
            self.written += 1;
            return true;
        }
        self.left_out += 1;
        false
    }

    /// Lines left out that nothing was said of; once.
    pub(super) fn left_out(&mut self) -> Option<u64> {
        // Told with the first line of a period.
        if self.written != 1 {
            return None;
        }
        Some(std::mem::take(&mut self.left_out)).filter(|lines| *lines > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_so_many_and_the_rest_is_counted() {
        let mut lines = Lines::default();
        let start = Instant::now();
        let written = (0..1000).filter(|_| lines.may(start)).count();
        assert_eq!(written, MOST as usize);
        assert_eq!(lines.left_out(), None, "not in the same period");
        assert!(lines.may(start + PERIOD));
        assert_eq!(lines.left_out(), Some(1000 - u64::from(MOST)));
        assert_eq!(lines.left_out(), None);
        assert!(lines.may(start + PERIOD));
    }
}
