// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The metrics of the store and of its clients, under stable names.

pub use tmem_store::{Metric, MetricKind as Kind};
use virtio_tmem::device::Backing;

/// How a VM's memory is backed, as far as that is known.
pub fn of_memory(backing: Option<Backing>) -> Vec<Metric> {
    let Some(backing) = backing else {
        return Vec::new();
    };
    vec![
        Metric::gauge(
            "memory_bytes",
            backing.bytes,
            "Memory of the VM that it can give back.",
        ),
        Metric::gauge(
            "backed_bytes",
            backing.backed,
            "Memory of the VM that the host backs.",
        ),
    ]
}
