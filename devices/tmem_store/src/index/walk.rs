// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Removing ranges of an object from a shard, a bounded piece at a time, so that
//! others can have the shard's lock in between.

use super::key::{Key, shard_of};
use super::maps::Maps;
use super::shard::Shard;
use super::{BLOCK_PAGES, STRIPE_BLOCKS};
use crate::tier::Content;
use crate::types::ObjectId;

/// How far a walk through a shard has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Walk {
    /// Nothing was looked at.
    #[default]
    Start,
    /// Through the blocks that the object has; this one comes next.
    Siblings(u64),
    /// Through the blocks that the ranges name; this one, of this range, comes
    /// next.
    Named { range: usize, block: u64 },
    /// All was looked at.
    Done,
}

/// Blocks looked at before a lock is yielded.
const PIECE: u32 = 256;

impl Shard {
    /// Removes pages of ranges of an object, which are in order and apart from
    /// each other, as far as they are in this shard, which is number `shard`: as
    /// many as a lock may be held for. In all, a walk costs the blocks of the
    /// ranges or the blocks of the object, whichever are fewer when it starts,
    /// unless blocks are removed meanwhile.
    pub(crate) fn flush(
        &mut self,
        object: &ObjectId,
        ranges: &[(u64, u64)],
        shard: usize,
        walk: &mut Walk,
        free: &mut dyn FnMut(Content),
    ) -> u64 {
        let maps = &mut self.maps;
        if *walk == Walk::Start {
            *walk = first_step(maps, object, ranges);
        }
        let mut pages = 0;
        for _ in 0..PIECE {
            let (more, next) = match *walk {
                Walk::Siblings(block) => sibling(maps, object, ranges, block, free),
                Walk::Named { range, block } => {
                    named(maps, object, ranges, shard, (range, block), free)
                }
                Walk::Start | Walk::Done => break,
            };
            pages += more;
            *walk = next;
        }
        pages
    }
}

impl Shard {
    /// Lets `visit` have the indices of pages that are there, as [`Shard::flush`] would remove them.
    pub(crate) fn look(
        &self,
        object: &ObjectId,
        ranges: &[(u64, u64)],
        shard: usize,
        walk: &mut Walk,
        visit: &mut dyn FnMut(u64),
    ) {
        let maps = &self.maps;
        if *walk == Walk::Start {
            *walk = first_step(maps, object, ranges);
        }
        for _ in 0..PIECE {
            let (found, next) = match *walk {
                Walk::Siblings(block) => next_sibling(maps, object, ranges, block),
                Walk::Named { range, block } => {
                    next_named(maps, object, ranges, shard, (range, block))
                }
                Walk::Start | Walk::Done => break,
            };
            if let Some((number, ranges)) = found {
                maps.each_page(number, |index| {
                    let at = ranges.partition_point(|(_, last)| *last < index);
                    if ranges.get(at).is_some_and(|(first, _)| *first <= index) {
                        visit(index);
                    }
                });
            }
            *walk = next;
        }
    }
}

/// The cheaper of the two ways.
fn first_step(maps: &Maps, object: &ObjectId, ranges: &[(u64, u64)]) -> Walk {
    let owner = maps.find_object(object).and_then(|at| maps.objects.get(at));
    let Some(owner) = owner else {
        return Walk::Done;
    };
    let blocks = ranges.iter().fold(0_u64, |sum, (first, last)| {
        sum.saturating_add(last / BLOCK_PAGES - first / BLOCK_PAGES + 1)
    });
    if u64::from(owner.count) < blocks {
        return first_sibling(maps, object);
    }
    let block = ranges.first().map_or(0, |(first, _)| first / BLOCK_PAGES);
    Walk::Named { range: 0, block }
}

fn first_sibling(maps: &Maps, object: &ObjectId) -> Walk {
    let owner = maps.find_object(object).and_then(|at| maps.objects.get(at));
    let first = owner.and_then(|owner| maps.blocks.get(owner.blocks.first));
    first.map_or(Walk::Done, |block| Walk::Siblings(block.number))
}

/// A block, and the ranges of which some may be in it; and what comes next.
type Step<'a> = (Option<(u32, &'a [(u64, u64)])>, Walk);

/// Removes what the ranges name of one block of the object.
fn sibling(
    maps: &mut Maps,
    object: &ObjectId,
    ranges: &[(u64, u64)],
    block: u64,
    free: &mut dyn FnMut(Content),
) -> (u64, Walk) {
    let (found, walk) = next_sibling(maps, object, ranges, block);
    let mut pages = 0;
    let (number, ranges) = found.unwrap_or_default();
    for (first, last) in ranges {
        if *first > block * BLOCK_PAGES + (BLOCK_PAGES - 1) {
            break;
        }
        let removed = maps.remove_pages(number, *first, *last, free);
        pages += removed.pages;
        if removed.gone {
            break;
        }
    }
    (pages, walk)
}

fn next_sibling<'a>(
    maps: &Maps,
    object: &ObjectId,
    ranges: &'a [(u64, u64)],
    block: u64,
) -> Step<'a> {
    let Some(number) = maps.find(&Key::new(&maps.seed, object, block)) else {
        // Somebody removed it while the lock was not held. What was looked at
        // has nothing left to remove, or what was put since.
        return (None, first_sibling(maps, object));
    };
    let next = maps.blocks.get(number).map(|found| found.siblings.next);
    let next = next.and_then(|next| maps.blocks.get(next));
    let walk = next.map_or(Walk::Done, |next| Walk::Siblings(next.number));
    // From the first range on that does not end before the block.
    let at = ranges.partition_point(|(_, last)| *last < block * BLOCK_PAGES);
    (Some((number, ranges.get(at..).unwrap_or_default())), walk)
}

/// Removes what one range names of one block.
fn named(
    maps: &mut Maps,
    object: &ObjectId,
    ranges: &[(u64, u64)],
    shard: usize,
    at: (usize, u64),
    free: &mut dyn FnMut(Content),
) -> (u64, Walk) {
    let (found, walk) = next_named(maps, object, ranges, shard, at);
    let pages = match found {
        Some((number, [(first, last), ..])) => maps.remove_pages(number, *first, *last, free).pages,
        _ => 0,
    };
    (pages, walk)
}

fn next_named<'a>(
    maps: &Maps,
    object: &ObjectId,
    ranges: &'a [(u64, u64)],
    shard: usize,
    (range, block): (usize, u64),
) -> Step<'a> {
    let this = ranges.get(range..=range).unwrap_or_default();
    let Some((_, last)) = this.first() else {
        return (None, Walk::Done);
    };
    if block > last / BLOCK_PAGES {
        let range = range + 1;
        let block = ranges
            .get(range)
            .map_or(0, |(first, _)| first / BLOCK_PAGES);
        return (None, Walk::Named { range, block });
    }
    if shard_of(object, block) != shard {
        // The next stripe. Block numbers end at 2^60: no overflow.
        let block = (block / STRIPE_BLOCKS + 1) * STRIPE_BLOCKS;
        return (None, Walk::Named { range, block });
    }
    let number = maps.find(&Key::new(&maps.seed, object, block));
    let block = block + 1;
    (
        number.map(|number| (number, this)),
        Walk::Named { range, block },
    )
}
