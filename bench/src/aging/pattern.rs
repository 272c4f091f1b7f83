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

/// Pages of one sort, or two, in a pool each, for one client or several.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) name: &'static str,
    /// Each client has one for each.
    pub(super) pools: &'static [(Sort, PoolKind)],
    pub(super) clients: usize,
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
    },
    Pattern {
        name: "heap pages",
        pools: &[(Sort::Heap, PoolKind::Persistent)],
        clients: 1,
    },
    Pattern {
        name: "heap persistent, files ephemeral",
        pools: MIXED,
        clients: 1,
    },
    Pattern {
        name: "heap persistent, files ephemeral",
        pools: MIXED,
        clients: SEVERAL,
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
