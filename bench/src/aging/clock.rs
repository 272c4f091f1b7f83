// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! CPU time of one thread of this process, as the kernel counts it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Says how long a thread ran. Other threads may ask.
pub(super) struct ThreadClock(PathBuf);

impl ThreadClock {
    /// The clock of the thread that calls this.
    pub(super) fn of_this_thread() -> Self {
        let thread = rustix::thread::gettid();
        Self(format!("/proc/self/task/{thread}/schedstat").into())
    }

    /// The time that it ran until now; `None` if the kernel does not say, or if it has
    /// ended.
    pub(super) fn elapsed(&self) -> Option<Duration> {
        let text = fs::read_to_string(&self.0).ok()?;
        let nanoseconds = text.split_ascii_whitespace().next()?;
        nanoseconds.parse().ok().map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn time_passes_for_a_thread_that_runs() {
        let clock = ThreadClock::of_this_thread();
        let Some(start) = clock.elapsed() else {
            eprintln!("left out: this kernel has no schedstat");
            return;
        };
        let begin = Instant::now();
        while clock.elapsed().unwrap() - start < Duration::from_millis(10) {
            assert!(begin.elapsed() < Duration::from_secs(60));
        }
        assert!(begin.elapsed() >= Duration::from_millis(9));
    }

    #[test]
    fn a_thread_that_has_ended_has_no_clock() {
        let thread = std::thread::spawn(ThreadClock::of_this_thread);
        let clock = thread.join().unwrap();
        let begin = Instant::now();
        while clock.elapsed().is_some() {
            assert!(begin.elapsed() < Duration::from_secs(60));
        }
    }
}
