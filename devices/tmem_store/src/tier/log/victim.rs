// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Segments that are cleaned: which is next, and what is in them.

use super::super::entry::{Location, Victim};
use super::super::format::{ALIGN, Place, SegmentHeader, State, Word, footprint, live_entry};
use super::super::owner::PoolTag;
use super::super::segments::Arena;
use super::{Head, Log, Segments, Temperature};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::types::ObjectId;

/// An entry of a victim.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moved {
    /// Number of a name, pool and object.
    Name(u16, PoolTag, ObjectId),
    /// A complete page: where it is, number of its object's name, and its index.
    Page(Location, u16, u64),
    /// Nothing to be moved.
    Other,
}

impl Log {
    /// Closes heads of which so many bytes are dead, so that they can be cleaned;
    /// bytes of memory given back.
    pub(crate) fn close_sparse(&self, arena: &Arena, least: u32) -> u64 {
        let mut bytes = 0;
        for temperature in [
            Temperature::Warm,
            Temperature::Cold,
            Temperature::Recompressed,
        ] {
            let mut place = self.head(temperature);
            let is_sparse = |head: &Head| {
                let segment = arena.segment(head.segment);
                segment.is_some_and(|segment| segment.dead() >= least)
            };
            if let Some(head) = place.take_if(|head| is_sparse(head)) {
                bytes += self.close(arena, &head, arena.now());
            }
        }
        bytes
    }

    /// The segment that is to be cleaned next, by cost and benefit, out of some that
    /// were not looked at for long; at least `least` bytes of it are dead, and at most
    /// `most` of its entries are live.
    pub(crate) fn victim(&self, arena: &Arena, least: u32, most: u32) -> Option<Victim> {
        /// Bytes that are copied in the time in which a page is looked for.
        const ENTRY_COST: u64 = 1024;
        /// Dead bytes for each entry, without which it does not pay to move any.
        const LEAST_PER_ENTRY: u32 = 8;
        let mut segments = self.segments();
        let best = segments.best(
            arena,
            |it| &mut it.next,
            Segments::LOOKS,
            |segment| {
                let dead = segment.dead();
                let entries = segment.refs();
                if dead < least.max(entries.saturating_mul(LEAST_PER_ENTRY))
                    || entries > most
                    || !segment.can_be_cleaned()
                {
                    return None;
                }
                // Benefit: what comes back, for as long as it may last. Cost: what is
                // read, and what is written.
                let live = u64::from(segment.live.load(Relaxed));
                let age = arena.age(segment.sequence.load(Relaxed));
                let used = live + u64::from(dead);
                let cost = used + live + u64::from(entries) * ENTRY_COST;
                Some(u64::from(dead) * age * 1024 / cost.max(1))
            },
        );
        self.take(arena, best?, segments)
    }

    /// Has a segment of the list be cleaned, unless somebody does so.
    pub(super) fn take(
        &self,
        arena: &Arena,
        number: u32,
        segments: MutexGuard<'_, Segments>,
    ) -> Option<Victim> {
        // It is the client's while the list is locked.
        let segment = arena.segment(number)?;
        if !segment.try_hold() {
            return None;
        }
        if !segment.begin_cleaning() {
            drop(segments);
            self.unref(arena, number);
            return None;
        }
        let used = segment.used.load(Relaxed) as usize;
        let is_recompressed = segment.is_recompressed.load(Relaxed);
        Some(Victim::new(number, used, is_recompressed))
    }

    /// A segment whose entries can still be made smaller, and to which nothing was
    /// appended for `age` milliseconds.
    pub(crate) fn cold(&self, arena: &Arena, age: u64) -> Option<Victim> {
        let now = arena.now();
        let mut segments = self.segments();
        let number = segments.best(
            arena,
            |it| &mut it.next_cold,
            1,
            |segment| {
                let is_cold = segment.can_be_cleaned()
                    && !segment.is_recompressed.load(Relaxed)
                    && segment.live.load(Relaxed) > 0
                    && now.saturating_sub(segment.unused_since.load(Relaxed)) >= age;
                is_cold.then_some(())
            },
        )?;
        if let Some(segment) = arena.segment(number) {
            // What stays in it all the same has to wait for another try.
            segment.unused_since.store(now, Relaxed);
        }
        self.take(arena, number, segments)
    }

    /// Closes heads to which nothing was appended for `age` milliseconds, so that
    /// their segments become cold; bytes of memory given back.
    pub(crate) fn close_unused(&self, arena: &Arena, age: u64) -> u64 {
        let now = arena.now();
        let mut bytes = 0;
        for temperature in [Temperature::Warm, Temperature::Cold] {
            let mut place = self.head(temperature);
            let Some(head) = place
                .as_mut()
                .filter(|head| head.used > SegmentHeader::BYTES)
            else {
                continue;
            };
            if head.seen.0 != head.used {
                head.seen = (head.used, now);
            }
            if now.saturating_sub(head.seen.1) >= age
                && let Some(head) = place.take()
            {
                drop(place);
                bytes += self.close(arena, &head, now.saturating_sub(age));
            }
        }
        bytes
    }

    /// The entry of a victim at `at`, which is moved behind it; `None` at the end.
    pub(crate) fn next(&self, arena: &Arena, victim: &Victim, at: &mut usize) -> Option<Moved> {
        *at = (*at).max(SegmentHeader::BYTES);
        if victim.ends_at(*at) {
            return None;
        }
        if let Some(blocks) = victim.blocks() {
            return self.next_spilled(arena, victim.segment(), blocks, at);
        }
        let word = |offset| arena.mapping.word(victim.segment(), offset);
        let (first, second) = (word(*at)?, word(*at + ALIGN)?);
        // Acquire: with a live entry comes its payload.
        let first = Word::decode(first.load(Acquire))?;
        let location = Location::new(victim.segment(), *at, first.codec, first.len);
        *at += footprint(first.len.into());
        if first.state != State::Live {
            return Some(Moved::Other);
        }
        let second = second.load(Relaxed);
        if !first.is_name {
            return Some(Moved::Page(location, first.name, second));
        }
        let object = arena.mapping.of_victim(victim, location).try_into().ok()?;
        let tag = PoolTag::from_word(second);
        Some(Moved::Name(first.name, tag, object))
    }

    /// As [`Log::next`], of a segment that was read from the spill area. Nothing is moved that is not
    /// as it was written.
    fn next_spilled(
        &self,
        arena: &Arena,
        number: u32,
        blocks: &[u8],
        at: &mut usize,
    ) -> Option<Moved> {
        let place = Place {
            sequence: arena.segment(number)?.sequence.load(Relaxed),
            offset: *at,
        };
        let (word, second, payload) = live_entry(blocks.get(*at..)?, place)?;
        let location = Location::new(number, *at, word.codec, word.len);
        *at += footprint(word.len.into());
        if word.is_name {
            let object = payload.try_into().ok()?;
            return Some(Moved::Name(word.name, PoolTag::from_word(second), object));
        }
        Some(match arena.is_live(number, location.offset()) {
            true => Moved::Page(location, word.name, second),
            false => Moved::Other,
        })
    }

    /// Whether nothing of a victim is live, but somebody still reads what was.
    pub(crate) fn is_only_read(&self, arena: &Arena, victim: &Victim) -> bool {
        let segment = arena.segment(victim.segment());
        segment.is_some_and(|segment| segment.live.load(Relaxed) == 0 && segment.is_pinned())
    }

    /// Gives a victim back; bytes of memory given back, which are to be credited.
    pub(crate) fn done(&self, arena: &Arena, victim: Victim) -> u64 {
        if let Some(segment) = arena.segment(victim.segment()) {
            segment.end_cleaning();
        }
        self.unref(arena, victim.segment())
    }
}
