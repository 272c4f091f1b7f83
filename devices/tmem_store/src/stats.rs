// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Statistics. Each number is declared once, with its name, kind, unit and what it
//! says; whoever exports statistics takes them from `metrics`. The names are stable:
//! reports use them as keys.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// What a metric counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Pages.
    Pages,
    /// Segments of page memory.
    Segments,
    /// Millionths of a second.
    Microseconds,
    /// Nothing: a plain number.
    One,
}

/// A number, and what is to be known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// What it is called: lower case, with its unit as in `held_bytes`.
    pub name: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// What it counts in.
    pub unit: Unit,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// Its value.
    pub value: u64,
}

impl Metric {
    /// A metric that goes up and down.
    pub const fn gauge(name: &'static str, value: u64, help: &'static str) -> Self {
        Self {
            name,
            kind: MetricKind::Gauge,
            unit: Unit::of(name),
            help,
            value,
        }
    }

    /// A metric that only ever grows.
    pub const fn counter(name: &'static str, value: u64, help: &'static str) -> Self {
        Self {
            kind: MetricKind::Counter,
            ..Self::gauge(name, value, help)
        }
    }
}

impl Unit {
    /// The unit that a name ends with.
    const fn of(name: &str) -> Self {
        let name = name.as_bytes();
        if ends_with(name, b"_bytes") {
            Self::Bytes
        } else if ends_with(name, b"_pages") {
            Self::Pages
        } else if ends_with(name, b"_segments") {
            Self::Segments
        } else if ends_with(name, b"_microseconds") {
            Self::Microseconds
        } else {
            Self::One
        }
    }
}

const fn ends_with(mut name: &[u8], mut end: &[u8]) -> bool {
    while let ([rest @ .., a], [end_rest @ .., b]) = (name, end) {
        if *a != *b {
            return false;
        }
        (name, end) = (rest, end_rest);
    }
    end.is_empty()
}

/// A number that any thread adds to, and that only statistics read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// Adds the microseconds since `start`.
    pub(crate) fn add_time(&self, start: Instant) {
        self.add(u64::try_from(start.elapsed().as_micros()).unwrap_or(0));
    }

    pub(crate) fn sub(&self, by: u64) {
        self.0.fetch_sub(by, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Declares [`Counters`], and the statistics that are made of them: `gauges` and
/// `counters` are in both, `of_client` in those of a client. What a structure has of
/// its own is not counted but looked up.
macro_rules! counters {
    (
        gauges { $($gauge:ident: $gunit:ident, $ghelp:literal;)* }
        counters { $($counter:ident: $cunit:ident, $chelp:literal;)* }
        of_client { $($own:ident: $ounit:ident, $ohelp:literal;)* }
        $(#[$smeta:meta])* pub struct $Store:ident () $store:tt
        $(#[$cmeta:meta])* pub struct $Client:ident ($($plain:tt)*) $client:tt
    ) => {
        /// What is counted of a client. Cache lines are shared by counters that change
        /// together.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $gauge: Counter,)*
            $(pub(crate) $counter: Counter,)*
            $(pub(crate) $own: Counter,)*
        }

        impl Counters {
            /// Adds them to the store's sums.
            pub(crate) fn add_to(&self, sum: &mut $Store) {
                $(sum.$gauge += self.$gauge.get();)*
                $(sum.$counter += self.$counter.get();)*
            }

            /// Fills in what is counted.
            pub(crate) fn fill(&self, stats: &mut $Client) {
                $(stats.$gauge = self.$gauge.get();)*
                $(stats.$counter = self.$counter.get();)*
                $(stats.$own = self.$own.get();)*
            }

            /// Counts what is kept according to `more`, too.
            pub(crate) fn keep(&self, more: &Self) {
                $(self.$gauge.add(more.$gauge.get());)*
            }

            /// Has `heir` count what was done so far.
            pub(crate) fn hand_over(&self, heir: &Self) {
                for (from, to) in [
                    $((&self.$counter, &heir.$counter),)*
                    $((&self.$own, &heir.$own),)*
                ] {
                    let done = from.get();
                    from.sub(done);
                    to.add(done);
                }
            }

            /// Hands what was done on to `heir`, so that sums do not fall when a client
            /// goes.
            pub(crate) fn bequeath(&self, heir: &Self) {
                $(heir.$counter.add(self.$counter.get());)*
            }
        }

        counters!(@stats [$(#[$smeta])*] $Store () $store
            { $($gauge: $gunit, $ghelp;)* } { $($counter: $cunit, $chelp;)* });
        counters!(@stats [$(#[$cmeta])*] $Client ($($plain)*) $client
            { $($gauge: $gunit, $ghelp;)* }
            { $($counter: $cunit, $chelp;)* $($own: $ounit, $ohelp;)* });
    };
    (
        @stats [$(#[$meta:meta])*] $Name:ident ($($plain:tt)*)
        { $($own:ident: $otype:ty, $ounit:ident, $ohelp:literal;)* }
        { $($gauge:ident: $gunit:ident, $ghelp:literal;)* }
        { $($counter:ident: $cunit:ident, $chelp:literal;)* }
    ) => {
        $(#[$meta])*
        #[non_exhaustive]
        pub struct $Name {
            $($plain)*
            $(#[doc = $ohelp] pub $own: $otype,)*
            $(#[doc = $ghelp] pub $gauge: u64,)*
            $(#[doc = $chelp] pub $counter: u64,)*
        }

        impl $Name {
            /// All numbers, with their names.
            #[allow(clippy::useless_conversion, reason = "one of them is a bool")]
            pub fn metrics(&self) -> Vec<Metric> {
                let metric = |name, kind, unit, help, value| Metric { name, kind, unit, help, value };
                vec![
                    $(metric(stringify!($own), MetricKind::Gauge, Unit::$ounit, $ohelp, self.$own.into()),)*
                    $(metric(stringify!($gauge), MetricKind::Gauge, Unit::$gunit, $ghelp, self.$gauge),)*
                    $(metric(stringify!($counter), MetricKind::Counter, Unit::$cunit, $chelp, self.$counter),)*
                ]
            }
        }
    };
}

counters! {
    gauges {
        persistent_pages: Pages, "Pages in persistent pools.";
        ephemeral_pages: Pages, "Pages in ephemeral pools.";
        same_filled_pages: Pages, "Pages kept as one repeated word.";
        compressed_pages: Pages, "Pages kept compressed.";
        compressed_bytes: Bytes, "Bytes of the compressed pages, without headers and padding.";
        zstd_pages: Pages, "Of the compressed pages, those that were not used for long and are kept with zstd.";
        zstd_bytes: Bytes, "Bytes of the pages kept with zstd.";
        raw_pages: Pages, "Pages kept as they are because they compress poorly.";
        deferred_pages: Pages, "Pages kept as they are until they are compressed (deferred).";
    }

    counters {
        evicted_pages: Pages, "Ephemeral pages evicted to make room.";
        cleaned_segments: Segments, "Segments out of which live entries were moved.";
        moved_bytes: Bytes, "Bytes of live entries that were moved out of segments.";
        recompressed_pages: Pages, "Pages recompressed with zstd because they were not used for long.";
        recompression_microseconds: Microseconds, "Time that recompression took, whether or not pages got smaller.";
        demoted_pages: Pages, "Pages moved from memory to the spill area.";
        promoted_pages: Pages, "Pages moved from the spill area to memory because they were used again.";
        spill_read_pages: Pages, "Pages read from the spill area by gets.";
        spill_read_microseconds: Microseconds, "Time that they took.";
        spill_read_errors: One, "Pages and segments of the spill area that could not be read, or are not as they were written.";
        spill_written_segments: Segments, "Segments written to the spill area.";
        spill_write_microseconds: Microseconds, "Time that they took.";
        spill_write_errors: One, "Segments that could not be written to the spill area; their pages stay where they were.";
        spill_stalls: One, "Times that the spill area had answered nothing for a second while a put waited for it; puts without memory are refused until it does.";
    }

    of_client {
        puts: Pages, "Pages offered by puts.";
        puts_replaced: Pages, "Puts that replaced an older page.";
        puts_refused_quota: Pages, "Puts refused because a quota was used up.";
        puts_refused_memory: Pages, "Puts refused because the store's memory was used up.";
        puts_refused_frozen: Pages, "Puts refused because the client was frozen.";
        puts_refused_pool_gone: Pages, "Puts refused because the pool had been destroyed.";
        puts_refused_unreadable: Pages, "Puts refused because the caller could not read the data.";
        puts_refused_prior_removed: Pages, "Refused puts that removed an older page.";
        gets: Pages, "Pages asked for by gets.";
        get_hits: Pages, "Gets that found the page.";
        get_misses: Pages, "Gets that found nothing.";
        get_lost: Pages, "Gets that found a page whose bytes could not be brought back.";
        compressed_in_line_pages: Pages, "Pages whose compression was tried while they were put.";
        compressed_deferred_pages: Pages, "Deferred pages whose compression was tried.";
        flushed_pages: Pages, "Pages removed by flushes.";
        taken_pages: Pages, "Pages removed by gets that remove.";
        destroyed_pages: Pages, "Pages removed with their pool.";
    }

    /// What a store holds and did, over all clients.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct StoreStats () {
        memory_limit_bytes: u64, Bytes, "Most bytes that the store holds: page memory and bookkeeping.";
        held_bytes: u64, Bytes, "Bytes charged to clients: their segments of page memory and bookkeeping.";
        mapped_bytes: u64, Bytes, "Bytes of page memory that the system reports behind the mapping.";
        clients: u64, One, "Clients.";
        spilled_pages: u64, Pages, "Pages in the spill area.";
        spilled_bytes: u64, Bytes, "Bytes of the spill area that clients' pages take: whole segments.";
        spill_size_bytes: u64, Bytes, "Bytes of the spill area; 0 without one.";
        spill_free_bytes: u64, Bytes, "Bytes of the spill area that nothing takes and that can be written.";
    }

    /// What a client holds and did.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct ClientStats (
        /// The name given to the client.
        pub name: String,
    ) {
        quota_bytes: u64, Bytes, "Most bytes that the store holds for this client.";
        ephemeral_quota_bytes: u64, Bytes, "Most bytes that the client's ephemeral pools hold.";
        ephemeral_held_bytes: u64, Bytes, "Bytes that the client's ephemeral pools hold: entries and index.";
        weight: u64, One, "Its part of the store's memory when that is short, in relation to others.";
        held_bytes: u64, Bytes, "Bytes that it holds now: segments of page memory and of the spill area, and bookkeeping.";
        spilled_pages: u64, Pages, "Of its pages, those in the spill area.";
        spilled_bytes: u64, Bytes, "Of the bytes that it holds, those in the spill area.";
        shared_pages: u64, Pages, "Of its pages, those that it shares with what it is a clone of, or with its clones.";
        shared_bytes: u64, Bytes, "Of the bytes that it holds, those of such pages: they count for the quota of each, and are held once.";
        pools: u64, One, "Pools.";
        frozen: bool, One, "Whether the client is frozen: puts of new pages are refused.";
    }
}

/// What clones and what they were cloned from have together, over all bases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedStats {
    /// Bytes in memory: segments and bookkeeping.
    pub memory_bytes: u64,
    /// Pages in memory.
    pub memory_pages: u64,
    /// Bytes in the spill area: whole segments.
    pub spilled_bytes: u64,
    /// Pages in the spill area.
    pub spilled_pages: u64,
    /// Pages read from there by gets.
    pub spill_read_pages: u64,
    /// Time that they took.
    pub spill_read_microseconds: u64,
    /// Pages moved from there to memory because they were used again.
    pub promoted_pages: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_say_the_unit() {
        for metrics in [
            StoreStats::default().metrics(),
            ClientStats::default().metrics(),
        ] {
            let names: BTreeSet<_> = metrics.iter().map(|metric| metric.name).collect();
            assert_eq!(names.len(), metrics.len());
            for metric in metrics {
                let bytes = metric.name.ends_with("_bytes");
                assert_eq!(bytes, metric.unit == Unit::Bytes, "{metric:?}");
                let named = Unit::of(metric.name);
                assert!(named == Unit::One || named == metric.unit, "{metric:?}");
                assert!(metric.help.ends_with('.'), "{metric:?}");
            }
        }
    }

    #[test]
    fn values_are_those_of_the_fields() {
        let stats = ClientStats {
            frozen: true,
            raw_pages: 7,
            ..ClientStats::default()
        };
        let value = |name: &str| {
            let metrics = stats.metrics();
            metrics
                .iter()
                .find(|metric| metric.name == name)
                .unwrap()
                .value
        };
        assert_eq!(
            (value("frozen"), value("raw_pages"), value("puts")),
            (1, 7, 0)
        );
    }
}
