// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The figures of the store and of its clients, under stable names.

use tmem_store::{ClientStats, StoreStats};

/// How a figure behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) value: u64,
}

const fn gauge(name: &'static str, value: u64, help: &'static str) -> Figure {
    Figure {
        name,
        kind: Kind::Gauge,
        help,
        value,
    }
}

const fn counter(name: &'static str, value: u64, help: &'static str) -> Figure {
    Figure {
        name,
        kind: Kind::Counter,
        help,
        value,
    }
}

/// Figures of the store.
pub(super) fn of_store(stats: &StoreStats) -> Vec<Figure> {
    vec![
        gauge(
            "memory_limit_bytes",
            stats.memory_limit_bytes,
            "Most bytes that all VMs' pages take on the host.",
        ),
        gauge(
            "held_bytes",
            stats.held_bytes,
            "Bytes charged to VMs: page memory and bookkeeping.",
        ),
        gauge(
            "mapped_bytes",
            stats.mapped_bytes,
            "Bytes of page memory that the host backs.",
        ),
        gauge(
            "persistent_pages",
            stats.persistent_pages,
            "Pages in persistent pools.",
        ),
        gauge(
            "ephemeral_pages",
            stats.ephemeral_pages,
            "Pages in ephemeral pools.",
        ),
        gauge(
            "same_filled_pages",
            stats.same_filled_pages,
            "Pages kept as one repeated word.",
        ),
        gauge(
            "compressed_pages",
            stats.compressed_pages,
            "Pages kept compressed.",
        ),
        gauge(
            "compressed_bytes",
            stats.compressed_bytes,
            "Bytes of the compressed pages.",
        ),
        gauge(
            "raw_pages",
            stats.raw_pages,
            "Pages kept as they are, because they compress poorly.",
        ),
        gauge(
            "waiting_pages",
            stats.waiting_pages,
            "Pages kept as they are until they are compressed.",
        ),
        counter(
            "evicted_pages",
            stats.evicted_pages,
            "Ephemeral pages evicted to make room.",
        ),
        gauge("clients", stats.clients, "VMs served."),
    ]
}

/// Figures of one VM in the store.
pub(super) fn of_client(stats: &ClientStats) -> Vec<Figure> {
    vec![
        gauge(
            "quota_bytes",
            stats.quota_bytes,
            "Most bytes that the VM's pages take on the host.",
        ),
        gauge(
            "held_bytes",
            stats.held_bytes,
            "Bytes that they take: page memory and bookkeeping.",
        ),
        gauge(
            "persistent_pages",
            stats.persistent_pages,
            "Pages in persistent pools.",
        ),
        gauge(
            "ephemeral_pages",
            stats.ephemeral_pages,
            "Pages in ephemeral pools.",
        ),
        gauge(
            "same_filled_pages",
            stats.same_filled_pages,
            "Pages kept as one repeated word.",
        ),
        gauge(
            "compressed_pages",
            stats.compressed_pages,
            "Pages kept compressed.",
        ),
        gauge(
            "compressed_bytes",
            stats.compressed_bytes,
            "Bytes of the compressed pages.",
        ),
        gauge(
            "raw_pages",
            stats.raw_pages,
            "Pages kept as they are, because they compress poorly.",
        ),
        gauge(
            "waiting_pages",
            stats.waiting_pages,
            "Pages kept as they are until they are compressed.",
        ),
        gauge("pools", stats.pools, "Pools."),
        gauge(
            "frozen",
            u64::from(stats.frozen),
            "1 while puts of new pages are refused on the operator's order.",
        ),
        counter("puts", stats.puts, "Pages offered by puts."),
        counter(
            "puts_replaced",
            stats.puts_replaced,
            "Puts that replaced an older page.",
        ),
        counter(
            "puts_refused_quota",
            stats.puts_refused_quota,
            "Puts refused because a quota was used up.",
        ),
        counter(
            "puts_refused_memory",
            stats.puts_refused_memory,
            "Puts refused because the memory limit was reached.",
        ),
        counter(
            "puts_refused_frozen",
            stats.puts_refused_frozen,
            "Puts refused because the VM was frozen.",
        ),
        counter(
            "puts_refused_pool_gone",
            stats.puts_refused_pool_gone,
            "Puts refused because the pool had been destroyed.",
        ),
        counter(
            "puts_refused_unreadable",
            stats.puts_refused_unreadable,
            "Puts refused because their bytes could not be read.",
        ),
        counter(
            "puts_refused_prior_removed",
            stats.puts_refused_prior_removed,
            "Refused puts that removed an older page.",
        ),
        counter("gets", stats.gets, "Pages asked for by gets."),
        counter("get_hits", stats.get_hits, "Gets that found the page."),
        counter("get_misses", stats.get_misses, "Gets that found nothing."),
        counter(
            "get_lost",
            stats.get_lost,
            "Gets that found a page whose bytes could not be brought back.",
        ),
        counter(
            "compressed_in_line_pages",
            stats.compressed_in_line_pages,
            "Pages whose compression was tried while they were put.",
        ),
        counter(
            "compressed_later_pages",
            stats.compressed_later_pages,
            "Pages whose compression was tried after they had waited.",
        ),
        counter(
            "flushed_pages",
            stats.flushed_pages,
            "Pages removed by flushes.",
        ),
        counter(
            "taken_pages",
            stats.taken_pages,
            "Pages removed by gets that remove.",
        ),
        counter(
            "destroyed_pages",
            stats.destroyed_pages,
            "Pages removed with their pool.",
        ),
        counter(
            "evicted_pages",
            stats.evicted_pages,
            "Ephemeral pages evicted to make room.",
        ),
    ]
}
