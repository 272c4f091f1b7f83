// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a device counts, for whoever looks from outside.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Something that is counted. Any thread may look while another counts.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `more`.
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Declares a struct of [`Counter`]s. Each has a name, under which it is shown,
/// and a sentence that says what it counts.
macro_rules! counters {
    ($(#[$meta:meta])* $vis:vis struct $Name:ident { $($counter:ident: $help:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        $vis struct $Name {
            $(#[doc = $help] $vis $counter: $crate::virtio::Counter,)*
        }

        impl $Name {
            /// The counters as metrics.
            $vis fn metrics(&self) -> Vec<tmem_host::metrics::Metric> {
                vec![$(tmem_host::metrics::Metric::counter(
                    stringify!($counter),
                    self.$counter.get(),
                    $help,
                ),)*]
            }
        }
    };
}

pub(super) use counters;

#[cfg(test)]
mod tests {
    counters! {
        /// For this test.
        struct Stats {
            seen: "What was seen.",
            done: "What was done.",
        }
    }

    #[test]
    fn counters_are_shown_under_their_names() {
        let stats = Stats::default();
        stats.done.add(2);
        stats.done.add(3);
        let metrics = stats.metrics();
        let told: Vec<_> = metrics.iter().map(|one| (one.name, one.value)).collect();
        assert_eq!(told, [("seen", 0), ("done", 5)]);
        assert_eq!(metrics[0].help, "What was seen.");
    }
}
