// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The index of a client is made anew, by several threads.
//!
//! Segments are read in any order: what is in one says nothing of another. Which of two pages with one
//! handle counts, and which of two pools with one number, follows from the order in which they were
//! written. So pages are put in the index in this order, each shard by one thread: shards have no
//! handle in common. What pools there are is settled in between, by one thread.
//!
//! This is done for a batch of segments at a time, so that little memory is needed for what was found and is
//! not in the index yet.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::threads::spread;
use crate::client::Client;
use crate::index::{OutOfRoom, SHARDS, shard_of, split};
use crate::tier::{Damaged, Left, LeftPage, Part, PoolTag, Scanned, Scanner};
use crate::types::ObjectId;

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) threads: usize,
    /// Segments of a batch.
    pub(super) batch: usize,
    /// Pages that are found in a batch before it ends, at least 1.
    pub(super) pages: usize,
    /// Segments of a batch for which a thread is worth being started.
    pub(super) worthwhile: usize,
}

impl Plan {
    /// 256 MiB in a batch, so that threads seldom wait for each other; and some 10 MiB of what was
    /// found, 24 bytes for each page, however small these are.
    pub(super) fn with_threads(threads: usize) -> Self {
        Self {
            threads,
            batch: 2048,
            pages: 1 << 18,
            worthwhile: 16,
        }
    }

    /// For as many CPUs as this process may use.
    pub(super) fn of_system() -> Self {
        Self::with_threads(std::thread::available_parallelism().map_or(1, Into::into))
    }
}

/// Has a client take over segments; whether those in memory could be believed. What it has not
/// taken over is freed.
///
/// A segment in the spill area that cannot be read, or is not as it was written, is freed alone: a
/// device fails in parts.
pub(super) fn rebuild(client: &Client, mut segments: Vec<Left>, plan: Plan) -> bool {
    // What was appended later replaces what was there before.
    segments.sort_unstable_by_key(|segment| std::cmp::Reverse(segment.sequence()));
    while !segments.is_empty() {
        let rest = segments.len().saturating_sub(plan.batch);
        let mut batch = segments.split_off(rest);
        batch.reverse();
        match take_over(client, batch, plan) {
            // Those that are left come next.
            Ok(left) => segments.extend(left.into_iter().rev()),
            Err(Damaged) => {
                free(client, segments);
                return false;
            }
        }
    }
    true
}

fn free(client: &Client, segments: impl IntoIterator<Item = Left>) {
    let member = client.member();
    let arena = member.budget.arena();
    segments
        .into_iter()
        .for_each(|segment| arena.discard(segment));
}

/// What came of the look at a segment.
enum Look {
    Right(Box<Scanned<SHARDS>>),
    Damaged(Left),
    /// As damaged, in the spill area.
    Lost(Left),
    /// Enough was found before.
    NotYet(Left),
}

impl Look {
    fn into_left(self) -> Left {
        match self {
            Self::Right(scanned) => scanned.into_left(),
            Self::Damaged(left) | Self::Lost(left) | Self::NotYet(left) => left,
        }
    }
}

/// Has a client take over segments, in this order; those that it has not taken over yet.
///
/// # Errors
/// When they are not believed, or there is no memory. All are freed or taken over then.
fn take_over(client: &Client, batch: Vec<Left>, plan: Plan) -> Result<Vec<Left>, Damaged> {
    let member = client.member();
    let budget = &member.budget;
    let arena = budget.arena();
    let threads = plan.threads.min(batch.len() / plan.worthwhile);
    let time = budget.ticks(batch.len() as u64 * Part::PLACES);

    let found = AtomicUsize::new(0);
    let numbered = batch.into_iter().enumerate();
    let mut looks = spread(
        threads,
        numbered,
        Scanner::new,
        |scanner, (nth, segment)| {
            // The first is taken over in any case.
            if nth > 0 && found.load(Relaxed) >= plan.pages {
                return Look::NotYet(segment);
            }
            match arena.scan(segment, scanner, shard) {
                Ok(scanned) => {
                    found.fetch_add(scanned.pages(), Relaxed);
                    Look::Right(Box::new(scanned))
                }
                Err(lost) if lost.spilled().is_some() => Look::Lost(lost),
                Err(damaged) => Look::Damaged(damaged),
            }
        },
    );
    if looks.iter().any(|look| matches!(look, Look::Damaged(_))) {
        free(client, looks.into_iter().map(Look::into_left));
        return Err(Damaged);
    }
    // Threads may have looked at some that come after one that is left.
    let end = looks
        .iter()
        .position(|look| matches!(look, Look::NotYet(_)));
    let rest = looks.split_off(end.unwrap_or(looks.len()));
    let rest = rest.into_iter().map(Look::into_left).collect();
    let scanned = looks.into_iter().filter_map(|look| match look {
        Look::Right(scanned) => Some(*scanned),
        Look::Lost(left) => {
            // Its pages go, and no others: an older page with the handle of one of them was marked
            // as dead, in memory, before the newer one came to the area.
            budget.counters.spill_read_errors.add(1);
            arena.discard(left);
            None
        }
        Look::Damaged(_) | Look::NotYet(_) => None,
    });

    let mut is_whole = true;
    let mut adopted = Vec::new();
    let mut shards = [const { Vec::new() }; SHARDS];
    let times = (0..).map(|nth| time + nth * Part::PLACES);
    for (scanned, time) in scanned.zip(times) {
        for pool in scanned.pools() {
            settle(client, *pool);
        }
        match budget.log.adopt(arena, scanned) {
            Ok((segment, parts)) => {
                budget.charge_anyway(segment.bytes);
                adopted.push(segment);
                for (shard, part) in shards.iter_mut().zip(parts) {
                    if !part.is_empty() {
                        shard.push((time, part));
                    }
                }
            }
            Err(left) => {
                arena.discard(left);
                is_whole = false;
            }
        }
    }
    let shards = shards.into_iter().enumerate();
    let kept = spread(
        threads,
        shards,
        || (),
        |(), (shard, parts)| keep(client, shard, parts),
    );
    for segment in adopted {
        budget.credit_some(budget.log.adopted(arena, segment));
    }
    if is_whole && kept.iter().all(Result::is_ok) {
        return Ok(rest);
    }
    free(client, rest);
    Err(Damaged)
}

/// The shard that a page is in.
fn shard(object: &ObjectId, index: u64) -> usize {
    let (block, _) = split(index);
    shard_of(object, block)
}

/// Makes the pool of a page that was found, if it is one that counts: of pools with one number,
/// all but the last were being destroyed.
fn settle(client: &Client, tag: PoolTag) {
    if tag.is_visible() && tag.id() >= client.max_pools() {
        return;
    }
    if let Some(there) = client.pages(tag.id()) {
        if there.tag().made() >= tag.made() {
            return;
        }
        client.destroy_pool(tag.id());
    }
    client.adopt_pool(tag);
}

/// Has a client keep pages of one shard, in the order in which they were written.
///
/// # Errors
/// When there is no memory for the index.
fn keep(client: &Client, shard: usize, parts: Vec<(u64, Part)>) -> Result<(), OutOfRoom> {
    /// Pages that are put in the index at a time.
    const PIECE: usize = 512;
    let mut result = Ok(());
    let pages = parts.into_iter().flat_map(|(time, part)| {
        let timed = move |page: LeftPage| (time + page.place, page);
        part.into_pages().map(timed)
    });
    let mut pages = pages.peekable();
    while let Some(tag) = pages.peek().map(|(_, page)| page.pool) {
        let same = std::iter::from_fn(|| pages.next_if(|(_, page)| page.pool == tag));
        let same = same.take(PIECE);
        match client.pages(tag.id()).filter(|pool| pool.tag() == tag) {
            Some(pool) => result = result.and(pool.adopt(shard, same.collect())),
            None => same.for_each(|(_, page)| client.member().budget.free_entry(page.entry)),
        }
    }
    result
}
