// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What pages are put where: the sorts of content, kinds of pools and numbers of
//! clients that are measured.

use crate::aging::content::Content;
use crate::aging::content::Sort;
use crate::aging::layout::Layout;
use anyhow::Context;
use anyhow::Result;
use tmem_store::Page;
use tmem_store::PoolKind;

/// Clients, where there are several.
const SEVERAL: usize = 8;

/// Which codecs the store may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codecs {
    /// LZ4 alone, as zram.
    Lz4,
    /// Also zstd, for pages that were not used for a while.
    Cold,
}

/// Pages of one sort, or two, in a pool each, for one client or several.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) name: &'static str,
    /// Each client has one for each.
    pub(super) pools: &'static [(Sort, PoolKind)],
    pub(super) clients: usize,
    /// Bytes held with the cold tier, at most this many times those of zram after
    /// compaction.
    pub(super) cold_target: Option<f64>,
}

/// Heap in swap and files in a cache.
const MIXED: &[(Sort, PoolKind)] = &[
    (Sort::Heap, PoolKind::Persistent),
    (Sort::File, PoolKind::Ephemeral),
];

/// All that is measured.
pub(super) const PATTERNS: &[Pattern] = &[
    Pattern {
        name: "file pages",
        pools: &[(Sort::File, PoolKind::Persistent)],
        clients: 1,
        cold_target: Some(0.75),
    },
    Pattern {
        name: "heap pages",
        pools: &[(Sort::Heap, PoolKind::Persistent)],
        clients: 1,
        cold_target: Some(0.60),
    },
    Pattern {
        name: "heap persistent, files ephemeral",
        pools: MIXED,
        clients: 1,
        cold_target: None,
    },
    Pattern {
        name: "heap persistent, files ephemeral",
        pools: MIXED,
        clients: SEVERAL,
        cold_target: None,
    },
];

impl Pattern {
    /// The most slots for which there is a page each.
    pub(super) fn layout(&self, content: &Content, most: usize) -> Layout {
        let pools = self.pools.len();
        let shortest = self.pools.iter().map(|(sort, _)| content.of(*sort).len());
        let pages = shortest.min().unwrap_or_default() * pools;
        Layout::new(most.min(pages), pools, self.clients)
    }

    /// What a slot is filled with first.
    pub(super) fn page<'a>(
        &self,
        content: &'a Content,
        layout: Layout,
        slot: usize,
    ) -> Result<&'a Page> {
        let pool = self.pools.get(layout.pool(slot));
        let page = pool.and_then(|(sort, _)| content.of(*sort).get(layout.nth_of_pool(slot)));
        page.with_context(|| format!("no page for slot {slot}"))
    }
}
