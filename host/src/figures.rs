// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The figures of the store and of its clients, under stable names.

use tmem_store::{ClientStats, StoreStats};
use virtio_tmem::device::Backing;

/// How a figure behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

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

/// What a store and a client tell alike of the pages that they hold. They are
/// different types with fields of the same names.
macro_rules! pages {
    ($stats:expr) => {
        [
            Figure::gauge(
                "persistent_pages",
                $stats.persistent_pages,
                "Pages in persistent pools.",
            ),
            Figure::gauge(
                "ephemeral_pages",
                $stats.ephemeral_pages,
                "Pages in ephemeral pools.",
            ),
            Figure::gauge(
                "same_filled_pages",
                $stats.same_filled_pages,
                "Pages kept as one repeated word.",
            ),
            Figure::gauge(
                "compressed_pages",
                $stats.compressed_pages,
                "Pages kept compressed.",
            ),
            Figure::gauge(
                "compressed_bytes",
                $stats.compressed_bytes,
                "Bytes of the compressed pages.",
            ),
            Figure::gauge(
                "zstd_pages",
                $stats.zstd_pages,
                "Compressed pages that were not used for long and are kept with zstd.",
            ),
            Figure::gauge("zstd_bytes", $stats.zstd_bytes, "Bytes of them."),
            Figure::gauge(
                "raw_pages",
                $stats.raw_pages,
                "Pages kept as they are, because they compress poorly.",
            ),
            Figure::gauge(
                "waiting_pages",
                $stats.waiting_pages,
                "Pages kept as they are until they are compressed.",
            ),
            Figure::counter(
                "evicted_pages",
                $stats.evicted_pages,
                "Ephemeral pages evicted to make room.",
            ),
            Figure::counter(
                "cleaned_segments",
                $stats.cleaned_segments,
                "Segments whose live pages were moved so that their memory came back.",
            ),
            Figure::counter(
                "moved_bytes",
                $stats.moved_bytes,
                "Bytes of pages that the cleaner moved.",
            ),
            Figure::counter(
                "recompressed_pages",
                $stats.recompressed_pages,
                "Pages recompressed with zstd because they were not used for long.",
            ),
            Figure::counter(
                "recompression_microseconds",
                $stats.recompression_microseconds,
                "Time spent on recompressing pages.",
            ),
        ]
    };
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
    let mut figures = vec![
        Figure::gauge(
            "memory_limit_bytes",
            stats.memory_limit_bytes,
            "Most bytes that all VMs' pages take on the host.",
        ),
        Figure::gauge(
            "held_bytes",
            stats.held_bytes,
            "Bytes charged to VMs: page memory and bookkeeping.",
        ),
        Figure::gauge(
            "mapped_bytes",
            stats.mapped_bytes,
            "Bytes of page memory that the host backs.",
        ),
        Figure::gauge("clients", stats.clients, "VMs served."),
    ];
    figures.extend(pages!(stats));
    figures
}

/// Figures of one VM in the store.
pub fn of_client(stats: &ClientStats) -> Vec<Figure> {
    let mut figures = vec![
        Figure::gauge(
            "quota_bytes",
            stats.quota_bytes,
            "Most bytes that the VM's pages take on the host.",
        ),
        Figure::gauge(
            "weight",
            stats.weight,
            "The VM's part of the memory when it is short, to that of others.",
        ),
        Figure::gauge(
            "held_bytes",
            stats.held_bytes,
            "Bytes that they take: page memory and bookkeeping.",
        ),
        Figure::gauge("pools", stats.pools, "Pools."),
        Figure::gauge(
            "frozen",
            u64::from(stats.frozen),
            "1 while puts of new pages are refused on the operator's order.",
        ),
        Figure::counter("puts", stats.puts, "Pages offered by puts."),
        Figure::counter(
            "puts_replaced",
            stats.puts_replaced,
            "Puts that replaced an older page.",
        ),
        Figure::counter(
            "puts_refused_quota",
            stats.puts_refused_quota,
            "Puts refused because a quota was used up.",
        ),
        Figure::counter(
            "puts_refused_memory",
            stats.puts_refused_memory,
            "Puts refused because the memory limit was reached.",
        ),
        Figure::counter(
            "puts_refused_frozen",
            stats.puts_refused_frozen,
            "Puts refused because the VM was frozen.",
        ),
        Figure::counter(
            "puts_refused_pool_gone",
            stats.puts_refused_pool_gone,
            "Puts refused because the pool had been destroyed.",
        ),
        Figure::counter(
            "puts_refused_unreadable",
            stats.puts_refused_unreadable,
            "Puts refused because their bytes could not be read.",
        ),
        Figure::counter(
            "puts_refused_prior_removed",
            stats.puts_refused_prior_removed,
            "Refused puts that removed an older page.",
        ),
        Figure::counter("gets", stats.gets, "Pages asked for by gets."),
        Figure::counter("get_hits", stats.get_hits, "Gets that found the page."),
        Figure::counter("get_misses", stats.get_misses, "Gets that found nothing."),
        Figure::counter(
            "get_lost",
            stats.get_lost,
            "Gets that found a page whose bytes could not be brought back.",
        ),
        Figure::counter(
            "compressed_in_line_pages",
            stats.compressed_in_line_pages,
            "Pages whose compression was tried while they were put.",
        ),
        Figure::counter(
            "compressed_later_pages",
            stats.compressed_later_pages,
            "Pages whose compression was tried after they had waited.",
        ),
        Figure::counter(
            "flushed_pages",
            stats.flushed_pages,
            "Pages removed by flushes.",
        ),
        Figure::counter(
            "taken_pages",
            stats.taken_pages,
            "Pages removed by gets that remove.",
        ),
        Figure::counter(
            "destroyed_pages",
            stats.destroyed_pages,
            "Pages removed with their pool.",
        ),
    ];
    figures.extend(pages!(stats));
    figures
}
