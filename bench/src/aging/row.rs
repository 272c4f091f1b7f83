// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What was measured after one step.

use crate::aging::TARGET;
use crate::aging::pattern::Codecs;
use crate::aging::pattern::Pattern;
use crate::aging::state::State;
use serde::Serialize;
use std::time::Duration;

/// Bytes held by zram for each page.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Peer {
    pub(super) before_compaction: f64,
    pub(super) after_compaction: f64,
}

/// What was measured after one step of one pattern.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) seed: u64,
    pub(super) pattern: &'static str,
    pub(super) clients: usize,
    /// Whether pages that were not used for a while were compressed with zstd.
    pub(super) cold_tier: bool,
    /// What `beside_zram_compacted` should be at most.
    pub(super) target: Option<f64>,
    pub(super) after: &'static str,
    pub(super) live_pages: u64,
    /// Bytes held for each live page, bookkeeping included.
    pub(super) store: f64,
    /// Bytes of mapped page memory for each live page.
    pub(super) store_mapped: f64,
    pub(super) zram: Option<Peer>,
    pub(super) beside_zram: Option<f64>,
    pub(super) beside_zram_compacted: Option<f64>,
    /// Pages that were still to be compressed.
    pub(super) deferred_pages: u64,
    pub(super) settle_seconds: f64,
    /// Bytes put during the step, as they came.
    pub(super) put_bytes: u64,
    /// Bytes that the store moved during the step.
    pub(super) moved_bytes: Option<u64>,
    /// CPU time of the store's background thread during the step.
    pub(super) background_cpu_seconds: Option<f64>,
}

/// The part of a row that is the store's.
pub(super) struct Measured {
    pub(super) before: State,
    pub(super) after: State,
    pub(super) settle: Duration,
    pub(super) put_bytes: u64,
}

impl Measured {
    /// Bytes moved during the step.
    fn moved_bytes(&self) -> Option<u64> {
        let (before, after) = (self.before.moved_bytes?, self.after.moved_bytes?);
        Some(after.saturating_sub(before))
    }

    /// CPU time of the background thread during the step.
    fn background_cpu(&self) -> Option<Duration> {
        let (before, after) = (self.before.background_cpu?, self.after.background_cpu?);
        Some(after.saturating_sub(before))
    }
}

impl Row {
    /// Names the pattern.
    pub(super) fn title(&self) -> String {
        let tier = if self.cold_tier {
            ", with the cold tier"
        } else {
            ""
        };
        match self.clients {
            1 => format!("{}, one client{tier}", self.pattern),
            clients => format!("{}, {clients} clients{tier}", self.pattern),
        }
    }

    pub(super) fn new(
        seed: u64,
        (pattern, codecs): (&Pattern, Codecs),
        after: &'static str,
        measured: &Measured,
        zram: Option<Peer>,
    ) -> Self {
        let state = &measured.after;
        let per_page = |bytes: u64| bytes as f64 / state.pages as f64;
        let store = per_page(state.held_bytes);
        Self {
            seed,
            pattern: pattern.name,
            clients: pattern.clients,
            cold_tier: codecs == Codecs::Cold,
            target: match codecs {
                Codecs::Lz4 => Some(TARGET),
                Codecs::Cold => pattern.cold_target,
            },
            after,
            live_pages: state.pages,
            store,
            store_mapped: per_page(state.mapped_bytes),
            zram,
            beside_zram: zram.map(|zram| store / zram.before_compaction),
            beside_zram_compacted: zram.map(|zram| store / zram.after_compaction),
            deferred_pages: state.deferred_pages,
            settle_seconds: measured.settle.as_secs_f64(),
            put_bytes: measured.put_bytes,
            moved_bytes: measured.moved_bytes(),
            background_cpu_seconds: measured.background_cpu().map(|time| time.as_secs_f64()),
        }
    }
}
