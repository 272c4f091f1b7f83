// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the counters of a client count.

use crate::stats::{Counter, Counters};
use crate::types::{Get, PoolKind, Put, Refused};

/// How a page is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// As it is, until it is compressed.
    Deferred,
    /// As it is, for good.
    Raw,
    /// As one repeated word.
    Same,
    /// In this many bytes of LZ4.
    Lz4(u64),
    /// In this many bytes of Zstandard.
    Zstd(u64),
}

impl Counters {
    /// The gauge of pages in pools of this kind.
    fn pages(&self, kind: PoolKind) -> &Counter {
        match kind {
            PoolKind::Persistent => &self.persistent_pages,
            PoolKind::Ephemeral => &self.ephemeral_pages,
        }
    }

    /// A page of a pool of this kind is about to be kept.
    pub(crate) fn kept(&self, kind: PoolKind, form: impl Into<Form>) {
        self.pages(kind).add(1);
        self.kept_as(form);
    }

    /// A page that was kept no longer is.
    pub(crate) fn dropped(&self, kind: PoolKind, form: impl Into<Form>) {
        self.pages(kind).sub(1);
        self.no_longer_as(form);
    }

    /// A page is about to be kept in this form.
    pub(crate) fn kept_as(&self, form: impl Into<Form>) {
        self.count(form.into(), Counter::add);
    }

    /// A page is no longer kept in this form.
    pub(crate) fn no_longer_as(&self, form: impl Into<Form>) {
        self.count(form.into(), Counter::sub);
    }

    fn count(&self, form: Form, by: fn(&Counter, u64)) {
        let bytes = match form {
            Form::Deferred => return by(&self.deferred_pages, 1),
            Form::Raw => return by(&self.raw_pages, 1),
            Form::Same => return by(&self.same_filled_pages, 1),
            Form::Lz4(bytes) => bytes,
            Form::Zstd(bytes) => {
                by(&self.zstd_pages, 1);
                by(&self.zstd_bytes, bytes);
                bytes
            }
        };
        by(&self.compressed_pages, 1);
        by(&self.compressed_bytes, bytes);
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
}
