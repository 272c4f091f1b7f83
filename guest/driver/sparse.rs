// SPDX-License-Identifier: GPL-2.0

//! Sets of pages of a disk that take memory for what is in them, and little for what is not.
//!
//! A disk may have a million times as many pages as a guest may keep. So the bits are in leaves that
//! are there when one of their bits is set, below nodes that are there when one of their leaves is.
//! Only the list of nodes is as long as the disk: 8 bytes for each 256 MiB.
//!
//! A leaf is small, because in the worst case it has one bit: then a page of 4096 bytes on the host
//! costs 128 bytes here. What all leaves and nodes may take has a bound; who finds no room for a bit
//! takes a leaf that is there out as a whole.

use kernel::prelude::*;

/// Words of 64 bits in a leaf.
const WORDS: usize = 16;
/// Leaves below a node.
const LEAVES: usize = 64;
/// Pages of a leaf: 4 MiB of disk.
const LEAF_PAGES: u64 = WORDS as u64 * 64;
/// Pages below a node: 256 MiB.
const NODE_PAGES: u64 = LEAVES as u64 * LEAF_PAGES;

type Leaf = [u64; WORDS];

struct Node {
    leaves: [Option<KBox<Leaf>>; LEAVES],
}

impl Node {
    fn is_empty(&self) -> bool {
        self.leaves.iter().all(Option::is_none)
    }
}

/// See the module.
pub(crate) struct Sparse {
    nodes: KVVec<Option<KBox<Node>>>,
    /// Bytes that leaves and nodes take, and may take.
    taken: u64,
    most: u64,
    /// The page of the leaf that goes next when there is no room.
    hand: u64,
}

/// Where the bit of a page is: its node, its leaf in that, its word, and its place in that.
fn place(page: u64) -> (usize, usize, usize, u64) {
    (
        (page / NODE_PAGES) as usize,
        (page / LEAF_PAGES % LEAVES as u64) as usize,
        (page / 64 % WORDS as u64) as usize,
        page % 64,
    )
}

impl Sparse {
    /// Without pages, of a disk of `pages` pages. Leaves and nodes take `most` bytes at most.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pages: u64, most: u64) -> Result<Self> {
        let count = usize::try_from(pages.div_ceil(NODE_PAGES))?;
        // Who wants the set says that there is no memory for it.
        let flags = GFP_KERNEL | __GFP_NOWARN;
        let mut nodes = KVVec::with_capacity(count, flags)?;
        for _ in 0..count {
            // There is room.
            let _ = nodes.push_within_capacity(None);
        }
        Ok(Self {
            nodes,
            taken: 0,
            most,
            hand: 0,
        })
    }

    /// Bytes that the list of nodes takes for a disk of `pages` pages.
    fn list_bytes(pages: u64) -> u64 {
        pages.div_ceil(NODE_PAGES) * size_of::<Option<KBox<Node>>>() as u64
    }

    /// Bytes that a set of pages of a disk of `pages` pages takes at most.
    pub(crate) fn most_bytes(pages: u64, most: u64) -> u64 {
        let leaves = pages.div_ceil(LEAF_PAGES) * size_of::<Leaf>() as u64;
        let nodes = pages.div_ceil(NODE_PAGES) * size_of::<Node>() as u64;
        Self::list_bytes(pages) + (leaves + nodes).min(most)
    }

    /// Bytes that it takes now.
    pub(crate) fn bytes(&self) -> u64 {
        self.nodes.len() as u64 * size_of::<Option<KBox<Node>>>() as u64 + self.taken
    }

    fn leaf(&self, page: u64) -> Option<&Leaf> {
        let (node, leaf, _, _) = place(page);
        let node = self.nodes.get(node)?.as_ref()?;
        Some(&**node.leaves.get(leaf)?.as_ref()?)
    }

    /// Whether `page` is in the set.
    pub(crate) fn has(&self, page: u64) -> bool {
        let (_, _, word, shift) = place(page);
        let word = self.leaf(page).and_then(|leaf| leaf.get(word));
        word.is_some_and(|word| word >> shift & 1 != 0)
    }

    /// The first page from `page` on that is in the set, or with `is_in` false the first that is not; `end`
    /// when there is none before that.
    pub(crate) fn next(&self, page: u64, end: u64, is_in: bool) -> u64 {
        let mut at = page;
        while at < end {
            let (_, _, word, shift) = place(at);
            let word = self.leaf(at).and_then(|leaf| leaf.get(word));
            let flip = if is_in { 0 } else { u64::MAX };
            let found = (word.copied().unwrap_or(0) ^ flip) >> shift;
            if found != 0 {
                return end.min(at + u64::from(found.trailing_zeros()));
            }
            at = (at / 64 + 1) * 64;
        }
        end
    }

    /// Adds `page`. Says whether it was not there; none when it can't be, because there is no room or
    /// no memory, or the disk has no such page. In any context.
    pub(crate) fn add(&mut self, page: u64) -> Option<bool> {
        let added = self.try_add(page);
        if added.is_none() {
            // A node that was made for it may have no leaf.
            self.clear(page, 1, |_| ());
        }
        added
    }

    fn try_add(&mut self, page: u64) -> Option<bool> {
        let (node, leaf, word, shift) = place(page);
        let node = self.nodes.get_mut(node)?;
        let slot = match node {
            Some(node) => node,
            None => {
                let bytes = size_of::<Node>() as u64;
                if self.taken + bytes > self.most {
                    return None;
                }
                let new = Node {
                    leaves: [const { None }; LEAVES],
                };
                let new = KBox::new(new, GFP_NOWAIT | __GFP_NOWARN).ok()?;
                self.taken += bytes;
                node.insert(new)
            }
        };
        let leaf = slot.leaves.get_mut(leaf)?;
        let leaf = match leaf {
            Some(leaf) => leaf,
            None => {
                let bytes = size_of::<Leaf>() as u64;
                if self.taken + bytes > self.most {
                    return None;
                }
                let new = KBox::new([0; WORDS], GFP_NOWAIT | __GFP_NOWARN).ok()?;
                self.taken += bytes;
                leaf.insert(new)
            }
        };
        let word = leaf.get_mut(word)?;
        let mask = 1 << shift;
        let is_new = *word & mask == 0;
        *word |= mask;
        Some(is_new)
    }

    /// Takes `page` out. Says whether it was there.
    pub(crate) fn take(&mut self, page: u64) -> bool {
        let mut was_there = false;
        self.clear(page, 1, |_| was_there = true);
        was_there
    }

    /// Takes the pages from `page` on out, `count` of them, and calls `cleared` for each that was
    /// there.
    pub(crate) fn clear(&mut self, page: u64, count: u64, mut cleared: impl FnMut(u64)) {
        let end = page.saturating_add(count);
        let mut at = page;
        while at < end {
            let (i, _, _, _) = place(at);
            let Some(slot) = self.nodes.get_mut(i) else {
                return;
            };
            let upto = ((i as u64 + 1) * NODE_PAGES).min(end);
            if let Some(node) = slot {
                self.taken -= clear_in(node, at, upto, &mut cleared);
                if node.is_empty() {
                    self.taken -= size_of::<Node>() as u64;
                    *slot = None;
                }
            }
            at = upto;
        }
    }

    /// The first page at or after `page` below which there may be any: no page of the set lies between
    /// the two.
    pub(crate) fn skip(&self, page: u64) -> Option<u64> {
        let first = (page / NODE_PAGES) as usize;
        let at = self.nodes.iter().skip(first).position(Option::is_some)? + first;
        Some(page.max(at as u64 * NODE_PAGES))
    }

    /// The first page of the first leaf that there is at or after `page`.
    fn next_leaf(&self, page: u64) -> Option<u64> {
        let (first, leaf, _, _) = place(page);
        let nodes = self.nodes.iter().enumerate().skip(first);
        for (i, node) in nodes.filter_map(|(i, node)| Some((i, node.as_ref()?))) {
            let from = if i == first { leaf } else { 0 };
            let found = node.leaves.iter().skip(from).position(Option::is_some);
            if let Some(more) = found {
                return Some(i as u64 * NODE_PAGES + (from + more) as u64 * LEAF_PAGES);
            }
        }
        None
    }

    /// Makes room: takes the pages of a leaf out, another one each time, and calls `cleared` for each.
    pub(crate) fn drop_some(&mut self, cleared: impl FnMut(u64)) {
        let next = self.next_leaf(self.hand).or_else(|| self.next_leaf(0));
        if let Some(first) = next {
            self.hand = first + LEAF_PAGES;
            self.clear(first, LEAF_PAGES, cleared);
        }
    }
}

/// Takes the pages from `at` to `end` out of a node that has them. Gives how many bytes that freed.
fn clear_in(node: &mut Node, mut at: u64, end: u64, cleared: &mut impl FnMut(u64)) -> u64 {
    let mut freed = 0;
    while at < end {
        let (_, i, _, _) = place(at);
        let upto = ((at / LEAF_PAGES + 1) * LEAF_PAGES).min(end);
        if let Some(slot) = node.leaves.get_mut(i) {
            if let Some(leaf) = slot {
                clear_in_leaf(leaf, at, upto, cleared);
                if leaf.iter().all(|word| *word == 0) {
                    *slot = None;
                    freed += size_of::<Leaf>() as u64;
                }
            }
        }
        at = upto;
    }
    freed
}

fn clear_in_leaf(leaf: &mut Leaf, mut at: u64, end: u64, cleared: &mut impl FnMut(u64)) {
    while at < end {
        let (_, _, i, shift) = place(at);
        let upto = (at / 64 + 1) * 64;
        let mut mask = u64::MAX << shift;
        if upto > end {
            mask &= u64::MAX >> (upto - end);
        }
        if let Some(word) = leaf.get_mut(i) {
            let mut found = *word & mask;
            *word &= !mask;
            while found != 0 {
                cleared(at / 64 * 64 + u64::from(found.trailing_zeros()));
                found &= found - 1;
            }
        }
        at = upto;
    }
}
