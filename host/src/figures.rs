// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The figures of the store and of its clients, under stable names.

pub use tmem_store::MetricKind as Kind;
use tmem_store::{ClientStats, Metric, StoreStats};
use virtio_tmem::device::Backing;

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What it is called: lower case, with its unit as in `held_bytes`.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// Its value.
    pub value: u64,
}

impl Figure {
    /// A figure that goes up and down.
    pub const fn gauge(name: &'static str, value: u64, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            help,
            value,
        }
    }

    /// A figure that only ever grows.
    pub const fn counter(name: &'static str, value: u64, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Counter,
            help,
            value,
        }
    }
}

impl From<Metric> for Figure {
    fn from(metric: Metric) -> Self {
        Self {
            name: metric.name,
            kind: metric.kind,
            help: metric.help,
            value: metric.value,
        }
    }
}

/// How a VM's memory is backed, as far as that is known.
pub fn of_memory(backing: Option<Backing>) -> Vec<Figure> {
    let Some(backing) = backing else {
        return Vec::new();
    };
    vec![
        Figure::gauge(
            "memory_bytes",
            backing.bytes,
            "Memory of the VM that it can give back.",
        ),
        Figure::gauge(
            "backed_bytes",
            backing.backed,
            "Memory of the VM that the host backs.",
        ),
    ]
}

/// Figures of the store.
pub fn of_store(stats: &StoreStats) -> Vec<Figure> {
    stats.metrics().into_iter().map(Figure::from).collect()
}

/// Figures of one VM in the store.
pub fn of_client(stats: &ClientStats) -> Vec<Figure> {
    stats.metrics().into_iter().map(Figure::from).collect()
}
