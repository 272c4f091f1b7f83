// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Counters of one client, and what they are called in statistics.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::stats::{ClientStats, StoreStats};
use crate::tier::{Codec, Content, Entry};
use crate::types::{Get, PoolKind, Put, Refused};

/// A number that only statistics read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    fn sub(&self, by: u64) {
        self.0.fetch_sub(by, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counters of one client. Cache lines are shared by counters that change
/// together.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    persistent_pages: Counter,
    pub(crate) ephemeral_pages: Counter,
    same_filled_pages: Counter,
    compressed_pages: Counter,
    compressed_bytes: Counter,
    zstd_pages: Counter,
    zstd_bytes: Counter,
    raw_pages: Counter,
    deferred_pages: Counter,
    pub(crate) compressed_in_line: Counter,
    pub(crate) compressed_deferred: Counter,
    puts: Counter,
    puts_replaced: Counter,
    puts_refused_quota: Counter,
    puts_refused_memory: Counter,
    puts_refused_frozen: Counter,
    puts_refused_pool_gone: Counter,
    puts_refused_unreadable: Counter,
    puts_refused_prior_removed: Counter,
    gets: Counter,
    get_hits: Counter,
    get_misses: Counter,
    get_lost: Counter,
    pub(crate) flushed_pages: Counter,
    pub(crate) taken_pages: Counter,
    pub(crate) destroyed_pages: Counter,
    pub(crate) evicted_pages: Counter,
    pub(crate) cleaned_segments: Counter,
    pub(crate) moved_bytes: Counter,
    pub(crate) recompressed_pages: Counter,
    pub(crate) recompression_microseconds: Counter,
}

impl Counters {
    /// The gauge of pages in pools of this kind.
    pub(crate) fn pages(&self, kind: PoolKind) -> &Counter {
        match kind {
            PoolKind::Persistent => &self.persistent_pages,
            PoolKind::Ephemeral => &self.ephemeral_pages,
        }
    }

    /// A page of a pool of this kind is about to be kept.
    pub(crate) fn kept(&self, kind: PoolKind, content: &Content) {
        self.pages(kind).add(1);
        self.kept_as(content);
    }

    /// A page that was kept no longer is.
    pub(crate) fn dropped(&self, kind: PoolKind, content: &Content) {
        self.pages(kind).sub(1);
        self.no_longer_as(content);
    }

    /// A page is about to be kept like this.
    pub(crate) fn kept_as(&self, content: &Content) {
        match content {
            Content::Deferred(_) => self.deferred_pages.add(1),
            Content::Entry(entry) => self.kept_entry(entry),
        }
    }

    /// A page is about to be kept in this entry.
    pub(crate) fn kept_entry(&self, entry: &Entry) {
        let len = entry.len() as u64;
        match entry.codec() {
            Some(Codec::Same) => return self.same_filled_pages.add(1),
            Some(Codec::Raw) => return self.raw_pages.add(1),
            Some(Codec::Zstd) => {
                self.zstd_pages.add(1);
                self.zstd_bytes.add(len);
            }
            Some(Codec::Lz4) | None => {}
        }
        self.compressed_pages.add(1);
        self.compressed_bytes.add(len);
    }

    /// A page is no longer kept like this.
    pub(crate) fn no_longer_as(&self, content: &Content) {
        match content {
            Content::Deferred(_) => self.deferred_pages.sub(1),
            Content::Entry(entry) => self.no_longer_entry(entry),
        }
    }

    /// A page is no longer kept in this entry.
    pub(crate) fn no_longer_entry(&self, entry: &Entry) {
        let len = entry.len() as u64;
        match entry.codec() {
            Some(Codec::Same) => return self.same_filled_pages.sub(1),
            Some(Codec::Raw) => return self.raw_pages.sub(1),
            Some(Codec::Zstd) => {
                self.zstd_pages.sub(1);
                self.zstd_bytes.sub(len);
            }
            Some(Codec::Lz4) | None => {}
        }
        self.compressed_pages.sub(1);
        self.compressed_bytes.sub(len);
    }

    /// A number that differs when pages were put or removed.
    pub(crate) fn changes(&self) -> u64 {
        let removed = [
            &self.puts,
            &self.flushed_pages,
            &self.taken_pages,
            &self.destroyed_pages,
            &self.evicted_pages,
        ];
        removed.iter().map(|counter| counter.get()).sum()
    }

    /// Counts an outcome and passes it on.
    pub(crate) fn put(&self, put: Put) -> Put {
        self.puts.add(1);
        let refused = match put.result {
            Ok(()) => {
                if put.prior_removed {
                    self.puts_replaced.add(1);
                }
                return put;
            }
            Err(Refused::Quota) => &self.puts_refused_quota,
            Err(Refused::Memory) => &self.puts_refused_memory,
            Err(Refused::Frozen) => &self.puts_refused_frozen,
            Err(Refused::PoolGone) => &self.puts_refused_pool_gone,
            Err(Refused::Unreadable) => &self.puts_refused_unreadable,
        };
        refused.add(1);
        if put.prior_removed {
            self.puts_refused_prior_removed.add(1);
        }
        put
    }

    /// Counts an outcome and passes it on.
    pub(crate) fn get(&self, get: Get) -> Get {
        self.gets.add(1);
        match get {
            Get::Hit => self.get_hits.add(1),
            Get::Miss => self.get_misses.add(1),
            Get::Lost => self.get_lost.add(1),
        }
        get
    }

    /// Adds what the client holds to the store's sums.
    pub(crate) fn add_to(&self, sum: &mut StoreStats) {
        sum.persistent_pages += self.persistent_pages.get();
        sum.ephemeral_pages += self.ephemeral_pages.get();
        sum.same_filled_pages += self.same_filled_pages.get();
        sum.compressed_pages += self.compressed_pages.get();
        sum.compressed_bytes += self.compressed_bytes.get();
        sum.zstd_pages += self.zstd_pages.get();
        sum.zstd_bytes += self.zstd_bytes.get();
        sum.raw_pages += self.raw_pages.get();
        sum.deferred_pages += self.deferred_pages.get();
        sum.cleaned_segments += self.cleaned_segments.get();
        sum.moved_bytes += self.moved_bytes.get();
        sum.recompressed_pages += self.recompressed_pages.get();
        sum.recompression_microseconds += self.recompression_microseconds.get();
    }

    /// Fills the fields that are counted here.
    pub(crate) fn fill(&self, stats: &mut ClientStats) {
        stats.persistent_pages = self.persistent_pages.get();
        stats.ephemeral_pages = self.ephemeral_pages.get();
        stats.same_filled_pages = self.same_filled_pages.get();
        stats.compressed_pages = self.compressed_pages.get();
        stats.compressed_bytes = self.compressed_bytes.get();
        stats.zstd_pages = self.zstd_pages.get();
        stats.zstd_bytes = self.zstd_bytes.get();
        stats.raw_pages = self.raw_pages.get();
        stats.deferred_pages = self.deferred_pages.get();
        stats.compressed_in_line_pages = self.compressed_in_line.get();
        stats.compressed_deferred_pages = self.compressed_deferred.get();
        stats.puts = self.puts.get();
        stats.puts_replaced = self.puts_replaced.get();
        stats.puts_refused_quota = self.puts_refused_quota.get();
        stats.puts_refused_memory = self.puts_refused_memory.get();
        stats.puts_refused_frozen = self.puts_refused_frozen.get();
        stats.puts_refused_pool_gone = self.puts_refused_pool_gone.get();
        stats.puts_refused_unreadable = self.puts_refused_unreadable.get();
        stats.puts_refused_prior_removed = self.puts_refused_prior_removed.get();
        stats.gets = self.gets.get();
        stats.get_hits = self.get_hits.get();
        stats.get_misses = self.get_misses.get();
        stats.get_lost = self.get_lost.get();
        stats.flushed_pages = self.flushed_pages.get();
        stats.taken_pages = self.taken_pages.get();
        stats.destroyed_pages = self.destroyed_pages.get();
        stats.evicted_pages = self.evicted_pages.get();
        stats.cleaned_segments = self.cleaned_segments.get();
        stats.moved_bytes = self.moved_bytes.get();
        stats.recompressed_pages = self.recompressed_pages.get();
        stats.recompression_microseconds = self.recompression_microseconds.get();
    }
}
