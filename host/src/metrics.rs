// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The metrics of the store and of its clients, under stable names.

use tmem_store::ClientStats;
pub use tmem_store::{Metric, MetricKind as Kind};
use virtio_tmem::device::Backing;
use virtio_tmem::wire::PAGE_SIZE;

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
        Metric::gauge(
            "given_back_bytes",
            backing.given(),
            "Memory of the VM that the host does not back.",
        ),
    ]
}

/// What a VM's pages are to a scheduler.
pub fn of_pages(stats: &ClientStats) -> [Metric; 2] {
    let pages = stats.persistent_pages.saturating_add(stats.ephemeral_pages);
    [
        Metric::gauge(
            "stored_bytes",
            pages.saturating_mul(PAGE_SIZE as u64),
            "Pages of the VM, as large as there.",
        ),
        Metric::gauge(
            "freeable_bytes",
            freeable(stats),
            "Bytes held for the VM's ephemeral pages, about: what evicting them gives.",
        ),
    ]
}

/// Bytes held for a client's ephemeral pages: its pages of both kinds share segments, so
/// it is their part by number.
pub fn freeable(client: &ClientStats) -> u64 {
    let ephemeral = u128::from(client.ephemeral_pages);
    let persistent = client.persistent_pages.saturating_sub(client.spilled_pages);
    let pages = ephemeral + u128::from(persistent);
    // None of them is spilled.
    let held = client.held_bytes.saturating_sub(client.spilled_bytes);
    let bytes = (u128::from(held) * ephemeral).checked_div(pages);
    bytes
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or(0)
}
