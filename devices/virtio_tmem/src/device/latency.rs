// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How long requests take, by what they were about and what came of them.

use std::time::Duration;

use tmem_store::PoolKind;
use virtio_serve::{Histogram, Latency};

/// Declares [`Work`]: what is timed apart, with its labels.
macro_rules! works {
    ($($(#[$meta:meta])* $name:ident: $op:literal, $result:literal;)*) => {
        /// What a request was about, and what came of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Work {
            $($(#[$meta])* $name,)*
        }

        /// Labels of each, in the order of their declaration.
        const LABELS: &[(&str, &str)] = &[$(($op, $result),)*];

        /// How many there are.
        const WORKS: usize = LABELS.len();
    };
}

works! {
    /// A PUT of which a page or more was kept.
    PutKept: "put", "kept";
    /// A PUT all of whose pages were refused.
    PutRefused: "put", "refused";
    /// A GET that brought a page or more.
    GetHit: "get", "hit";
    /// A GET that brought none.
    GetMiss: "get", "miss";
    Flush: "flush", "done";
    FlushObject: "flush_object", "done";
    FlushExtents: "flush_extents", "done";
}

/// A request that was served: what [`Metrics::served`](super::Metrics::served) is to know of it.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    pub(super) work: Work,
    pub(super) pool: PoolKind,
}

impl Served {
    /// Whether it was a GET.
    pub fn is_get(self) -> bool {
        matches!(self.work, Work::GetHit | Work::GetMiss)
    }
}

/// Histograms of one device.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    persistent: [Histogram; WORKS],
    ephemeral: [Histogram; WORKS],
}

impl Latencies {
    pub(super) fn record(&self, served: Served, took: Duration) {
        let histograms = match served.pool {
            PoolKind::Persistent => &self.persistent,
            PoolKind::Ephemeral => &self.ephemeral,
        };
        if let Some(histogram) = histograms.get(served.work as usize) {
            histogram.record(took);
        }
    }

    /// Those that have something.
    pub(super) fn get(&self) -> impl Iterator<Item = Latency> {
        let pools = [
            ("persistent", &self.persistent),
            ("ephemeral", &self.ephemeral),
        ];
        pools.into_iter().flat_map(|(pool, histograms)| {
            let labelled = LABELS.iter().zip(histograms);
            labelled.filter_map(move |((op, result), histogram)| {
                Some(Latency::new(op, result, pool, histogram.get()?))
            })
        })
    }
}
