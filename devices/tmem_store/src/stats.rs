// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Statistics. Each number is declared once, with its name, kind, unit and what it
//! says; whoever exports statistics takes them from `metrics`. The names are stable:
//! reports use them as keys.

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

/// Declares structures of metrics. Those in `common` are in each of them.
macro_rules! counters {
    (
        common $common:tt
        $($(#[$meta:meta])* pub struct $Name:ident ( $($plain:tt)* ) $own:tt)*
    ) => {
        $(counters!(@one [$(#[$meta])*] $Name ( $($plain)* ) $own $common);)*
    };
    (
        @one [$(#[$meta:meta])*] $Name:ident ( $($plain:tt)* )
        { $($own:ident: $otype:ty, $okind:ident, $ounit:ident, $ohelp:literal;)* }
        { $($both:ident: $btype:ty, $bkind:ident, $bunit:ident, $bhelp:literal;)* }
    ) => {
        $(#[$meta])*
        #[non_exhaustive]
        pub struct $Name {
            $($plain)*
            $(#[doc = $ohelp] pub $own: $otype,)*
            $(#[doc = $bhelp] pub $both: $btype,)*
        }

        impl $Name {
            /// All numbers, with their names.
            #[allow(clippy::useless_conversion, reason = "one of them is a bool")]
            pub fn metrics(&self) -> Vec<Metric> {
                vec![
                    $(Metric {
                        name: stringify!($own),
                        kind: MetricKind::$okind,
                        unit: Unit::$ounit,
                        help: $ohelp,
                        value: self.$own.into(),
                    },)*
                    $(Metric {
                        name: stringify!($both),
                        kind: MetricKind::$bkind,
                        unit: Unit::$bunit,
                        help: $bhelp,
                        value: self.$both.into(),
                    },)*
                ]
            }
        }
    };
}

counters! {
    common {
        persistent_pages: u64, Gauge, Pages, "Pages in persistent pools.";
        ephemeral_pages: u64, Gauge, Pages, "Pages in ephemeral pools.";
        same_filled_pages: u64, Gauge, Pages, "Pages kept as one repeated word.";
        compressed_pages: u64, Gauge, Pages, "Pages kept compressed.";
        compressed_bytes: u64, Gauge, Bytes, "Bytes of the compressed pages, without headers and padding.";
        zstd_pages: u64, Gauge, Pages, "Of the compressed pages, those that were not used for long and are kept with zstd.";
        zstd_bytes: u64, Gauge, Bytes, "Bytes of the pages kept with zstd.";
        raw_pages: u64, Gauge, Pages, "Pages kept as they are because they compress poorly.";
        deferred_pages: u64, Gauge, Pages, "Pages kept as they are until they are compressed (deferred).";
    }

    /// What a store holds and did, over all clients.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct StoreStats () {
        memory_limit_bytes: u64, Gauge, Bytes, "Most bytes that the store holds: page memory and bookkeeping.";
        held_bytes: u64, Gauge, Bytes, "Bytes charged to clients: their segments of page memory and bookkeeping.";
        mapped_bytes: u64, Gauge, Bytes, "Bytes of page memory that the system reports behind the mapping.";
        evicted_pages: u64, Counter, Pages, "Ephemeral pages that were evicted to make room.";
        cleaned_segments: u64, Gauge, Segments, "Segments out of which live entries were moved, of the clients that are there now.";
        moved_bytes: u64, Gauge, Bytes, "Bytes of live entries that were moved out of segments.";
        recompressed_pages: u64, Gauge, Pages, "Pages recompressed with zstd because they were not used for long.";
        recompression_microseconds: u64, Gauge, Microseconds, "Time that recompression took, whether or not pages got smaller.";
        clients: u64, Gauge, One, "Clients.";
    }

    /// What a client holds and did.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct ClientStats (
        /// The name given to the client.
        pub name: String,
    ) {
        quota_bytes: u64, Gauge, Bytes, "Most bytes that the store holds for this client.";
        weight: u64, Gauge, One, "Its part of the store's memory when that is short, in relation to others.";
        held_bytes: u64, Gauge, Bytes, "Bytes that it holds now: segments of page memory and bookkeeping.";
        pools: u64, Gauge, One, "Pools.";
        frozen: bool, Gauge, One, "Whether the client is frozen: puts of new pages are refused.";
        puts: u64, Counter, Pages, "Pages offered by puts.";
        puts_replaced: u64, Counter, Pages, "Puts that replaced an older page.";
        puts_refused_quota: u64, Counter, Pages, "Puts refused because a quota was used up.";
        puts_refused_memory: u64, Counter, Pages, "Puts refused because the store's memory was used up.";
        puts_refused_frozen: u64, Counter, Pages, "Puts refused because the client was frozen.";
        puts_refused_pool_gone: u64, Counter, Pages, "Puts refused because the pool had been destroyed.";
        puts_refused_unreadable: u64, Counter, Pages, "Puts refused because the caller could not read the data.";
        puts_refused_prior_removed: u64, Counter, Pages, "Refused puts that removed an older page.";
        gets: u64, Counter, Pages, "Pages asked for by gets.";
        get_hits: u64, Counter, Pages, "Gets that found the page.";
        get_misses: u64, Counter, Pages, "Gets that found nothing.";
        get_lost: u64, Counter, Pages, "Gets that found a page whose bytes could not be brought back.";
        compressed_in_line_pages: u64, Counter, Pages, "Pages whose compression was tried while they were put.";
        compressed_deferred_pages: u64, Counter, Pages, "Deferred pages whose compression was tried.";
        flushed_pages: u64, Counter, Pages, "Pages removed by flushes.";
        taken_pages: u64, Counter, Pages, "Pages removed by gets that remove.";
        destroyed_pages: u64, Counter, Pages, "Pages removed with their pool.";
        evicted_pages: u64, Counter, Pages, "Ephemeral pages evicted to make room.";
        cleaned_segments: u64, Counter, Segments, "Segments out of which live entries were moved.";
        moved_bytes: u64, Counter, Bytes, "Bytes of live entries that were moved out of segments.";
        recompressed_pages: u64, Counter, Pages, "Pages recompressed with zstd because they were not used for long.";
        recompression_microseconds: u64, Counter, Microseconds, "Time that recompression took, whether or not pages got smaller.";
    }
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
