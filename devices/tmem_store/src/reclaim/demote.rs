// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Demotion: pages that were not used for long go to the spill area, a segment at a time.
//!
//! Entries are copied into a segment of its own, which is written to the area, and then put in place of
//! the old ones, each under its shard's lock, as the cleaner does it. So segments in the area are full
//! when they are written. Those that are sparse later are cleaned in the same way: into another one.
//!
//! Ephemeral pages are evicted instead, and pages of one repeated word stay: they take next to nothing.

use super::cleaner::Cleaner;
use super::{Effort, Member, Reclaimer};
use crate::budget::Shortage;
use crate::pool::Pages;
use crate::sync::{Arc, TryLockError};
use crate::tier::{
    Codec, Location, Moved, Owner, Payload, PoolTag, SEGMENT, SpillDraft, SpillPlace, Spilled,
    Stub, Temperature, Victim,
};
use crate::types::{ObjectId, PoolKind};
use std::io::ErrorKind;
use std::time::Instant;

/// Segments that are looked through for one in the area at most, and those of which some entries go
/// there: more would be held for little.
const LOOKED_THROUGH: usize = 64;
const SOURCES: usize = 8;

#[expect(clippy::cast_possible_truncation, reason = "a segment is small")]
const SEGMENT_BYTES: u32 = SEGMENT as u32;

/// Least dead bytes of a segment in the area that is cleaned when slots are short.
const SPARSE: u32 = SEGMENT_BYTES / 8;

/// Least dead bytes of one that is cleaned in any case.
const HALF_EMPTY: u32 = SEGMENT_BYTES / 2;

/// Least dead bytes of one that is cleaned when its client's quota is used up.
const LEAST: u32 = SEGMENT_BYTES / 32;

/// Looks that a demotion costs, most of them for its write.
const LOOKS: u32 = 64;

/// What came of a demotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demoted {
    /// Memory came back, or slots.
    Some,
    /// Somebody else is at it.
    Busy,
    /// There is nothing to be demoted, or nowhere to demote it to.
    Nothing,
}

/// A page that is about to be demoted.
#[derive(Debug)]
struct Pending {
    pool: Arc<Pages>,
    object: ObjectId,
    index: u64,
    old: Location,
    new: SpillPlace,
}

/// What a client's cleaner keeps for demotions, so that none of it is allocated when memory is short.
#[derive(Debug, Default)]
pub(super) struct Demotion {
    draft: Option<SpillDraft>,
    pending: Vec<Pending>,
}

/// From where entries are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Memory: the oldest first.
    Memory,
    /// The area: those with so many dead bytes.
    Area(u32),
}

impl Member {
    /// Moves a segment's worth of entries to the spill area. Only the `patient` wait for locks.
    fn demote(&self, source: Source, patient: bool) -> Demoted {
        let mut cleaner = match self.cleaner.try_lock() {
            Ok(cleaner) => cleaner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                if patient {
                    drop(self.cleaner.lock());
                }
                return Demoted::Busy;
            }
        };
        let arena = self.budget.arena();
        let draft = cleaner.demotion.draft.take();
        let mut draft = draft.unwrap_or_else(SpillDraft::new);
        draft.begin(arena);
        let spent = || self.budget.memory().saturating_sub(self.budget.log.room());
        let before = spent();
        let mut victims = Vec::with_capacity(SOURCES);
        for _ in 0..LOOKED_THROUGH {
            let Some(victim) = self.source(source) else {
                break;
            };
            let gathered = cleaner.demotion.pending.len();
            let has_room = self.gather(&mut cleaner, &victim, &mut draft, patient);
            if cleaner.demotion.pending.len() > gathered {
                victims.push(victim);
            } else {
                // What was in it is gone, or elsewhere in memory.
                self.budget.credit_some(self.budget.log.done(arena, victim));
            }
            if !has_room || victims.len() == SOURCES {
                break;
            }
        }
        let cleans = source != Source::Memory;
        let spilled = self.write(&mut cleaner, &mut draft, cleans, patient);
        cleaner.demotion.pending.clear();
        cleaner.demotion.draft = Some(draft);
        for victim in victims {
            self.budget.credit_some(self.budget.log.done(arena, victim));
        }
        let is_written = spilled.is_some();
        if let Some(spilled) = spilled {
            self.budget
                .credit_some(self.budget.log.seal_spilled(arena, spilled));
        }
        // Also if nothing was written: ephemeral pages may be gone.
        if is_written || spent() < before {
            Demoted::Some
        } else {
            Demoted::Nothing
        }
    }

    /// Moves entries of sparse segments in the area together, because the quota is used up; whether it
    /// is worth trying again.
    pub(super) fn clean_spilled(&self, effort: &mut Effort) -> bool {
        if self.budget.log.spilled_dead() < SEGMENT as u64 || !effort.look() {
            return false;
        }
        for _ in 0..LOOKS {
            effort.look();
        }
        match self.demote(Source::Area(LEAST), true) {
            Demoted::Some => true,
            Demoted::Busy => effort.wait(),
            Demoted::Nothing => false,
        }
    }

    fn source(&self, source: Source) -> Option<Victim> {
        let (arena, log) = (self.budget.arena(), &self.budget.log);
        match source {
            Source::Memory => {
                let first = log.oldest(arena);
                first.or_else(|| {
                    // What is appended to may be all that there is.
                    self.budget.credit_some(log.close_unused(arena, 0));
                    log.oldest(arena)
                })
            }
            Source::Area(least) => match log.sparse_spilled(arena, least) {
                Ok(victim) => victim,
                Err(unread) => {
                    self.budget.counters.spill_read_errors.add(1);
                    self.budget.credit_some(log.done(arena, unread));
                    None
                }
            },
        }
    }

    /// Copies the entries of a victim; whether there is room for more.
    fn gather(
        &self,
        cleaner: &mut Cleaner,
        victim: &Victim,
        draft: &mut SpillDraft,
        patient: bool,
    ) -> bool {
        let arena = self.budget.arena();
        let mut at = 0;
        cleaner.forget_names();
        while let Some(entry) = self.budget.log.next(arena, victim, &mut at) {
            let (location, name, index) = match entry {
                Moved::Other => continue,
                Moved::Name(name, pool, object) => {
                    cleaner.name(name, pool, object);
                    continue;
                }
                Moved::Page(location, name, index) => (location, name, index),
            };
            let Some((tag, object)) = cleaner.named(name) else {
                continue;
            };
            let Some(pool) = self.pool_of(tag) else {
                continue;
            };
            let owner = Owner {
                pool: tag,
                object: &object,
                index,
            };
            if pool.kind() == PoolKind::Ephemeral {
                pool.evict_entry(&owner, location, patient);
                continue;
            }
            let Some(payload) = arena.of_victim(victim, location) else {
                continue;
            };
            let stays = victim.is_in_memory() && self.stays(&pool, &owner, location, payload);
            if stays && self.keep_in_memory(&pool, &owner, location, payload, patient) {
                continue;
            }
            let Some(new) = draft.push(&owner, payload) else {
                return false;
            };
            cleaner.demotion.pending.push(Pending {
                pool,
                object,
                index,
                old: location,
                new,
            });
        }
        true
    }

    fn pool_of(&self, tag: PoolTag) -> Option<Arc<Pages>> {
        let pool = self.pools().get(&tag.id()).cloned();
        pool.filter(|pool| pool.tag() == tag)
    }

    /// Whether a page is better kept in memory, if there is any.
    fn stays(&self, pool: &Pages, owner: &Owner<'_>, at: Location, payload: Payload<'_>) -> bool {
        payload.codec == Codec::Same || pool.was_used(owner, at) == Some(true)
    }

    /// Moves an entry to another segment in memory; whether there was room.
    fn keep_in_memory(
        &self,
        pool: &Pages,
        owner: &Owner<'_>,
        old: Location,
        payload: Payload<'_>,
        patient: bool,
    ) -> bool {
        let charge = |bytes| {
            let charged = self.budget.charge_for_moving(bytes);
            charged.then_some(()).ok_or(Shortage::Store)
        };
        let appended = self
            .budget
            .append(Temperature::Cold, owner, payload, charge);
        let Ok(new) = appended else {
            return false;
        };
        if let Err(new) = pool.move_entry(owner, old, new, patient) {
            self.budget.free_entry(new);
        }
        true
    }

    /// Writes what was gathered, and has it kept instead of what it was copied from.
    fn write(
        &self,
        cleaner: &mut Cleaner,
        draft: &mut SpillDraft,
        cleans: bool,
        patient: bool,
    ) -> Option<Spilled> {
        if draft.is_empty() {
            return None;
        }
        let (arena, log) = (self.budget.arena(), &self.budget.log);
        let (start, counters) = (Instant::now(), &self.budget.counters);
        let spilled = match log.spill(arena, draft, cleans) {
            Ok(spilled) => spilled,
            // No room is no error, and will be made.
            Err(error)
                if error.kind() == ErrorKind::StorageFull && error.raw_os_error().is_none() =>
            {
                return None;
            }
            Err(_) => {
                counters.spill_write_errors.add(1);
                return None;
            }
        };
        counters.spill_written_segments.add(1);
        counters.spill_write_microseconds.add_time(start);
        self.budget.charge_anyway(Stub::MEMORY as u64);
        for page in cleaner.demotion.pending.drain(..) {
            let Pending {
                pool,
                object,
                index,
                old,
                new,
            } = page;
            let owner = Owner {
                pool: pool.tag(),
                object: &object,
                index,
            };
            let new = log.spilled_entry(arena, &spilled, new);
            match pool.move_entry(&owner, old, new, patient) {
                Ok(()) if !cleans => counters.demoted_pages.add(1),
                Ok(()) => {}
                Err(new) => self.budget.free_entry(new),
            }
        }
        Some(spilled)
    }

    /// Whether the client has pages in memory that can be demoted.
    fn can_demote(&self) -> bool {
        let counters = &self.budget.counters;
        counters.persistent_pages.get() > self.budget.log.spilled_pages()
    }
}

impl Reclaimer {
    /// Whether there is a spill area with room.
    pub(super) fn can_demote(&self) -> bool {
        let spill = self.budget.arena.spill.as_ref();
        spill.is_some_and(|spill| spill.has_room() || (spill.is_tight() && !spill.rests()))
    }

    /// Of the clients with pages to be demoted, the one that holds most memory for its weight.
    fn to_demote(&self) -> Option<Arc<Member>> {
        let members = self.members();
        let can = members.iter().filter(|member| member.can_demote());
        can.max_by_key(|member| member.budget.load()).cloned()
    }

    /// Demotes pages because a put found no memory: those of whoever holds most for its weight.
    /// Whether it is worth trying again.
    pub(super) fn demote_for(&self, member: &Member, effort: &mut Effort) -> bool {
        if !self.can_demote() || !effort.look() {
            return false;
        }
        let Some(other) = self.to_demote() else {
            return false;
        };
        for _ in 0..LOOKS {
            effort.look();
        }
        let is_patient = effort.is_patient();
        let patient = |of: &Arc<Member>| is_patient || std::ptr::eq(member, Arc::as_ptr(of));
        match other.demote(Source::Memory, patient(&other)) {
            Demoted::Some => true,
            Demoted::Busy => effort.wait(),
            Demoted::Nothing => self.clean_area(patient) && effort.wait(),
        }
    }

    /// Demotes pages while little memory is left; whether there is more to do.
    pub(crate) fn demote_some(&self) -> bool {
        if self.budget.arena.spill.is_none() {
            return false;
        }
        let cleaned = self.clean_area(|_| true);
        if !self.budget.is_tight() || !self.can_demote() {
            return cleaned;
        }
        let other = self.to_demote();
        let demoted = other.is_some_and(|it| it.demote(Source::Memory, true) == Demoted::Some);
        demoted || cleaned
    }

    /// Demotes a segment of each client, and cleans one in the area.
    #[cfg(test)]
    pub(crate) fn demote_now(&self) -> bool {
        let sources = [Source::Memory, Source::Area(SPARSE)];
        self.each_member().fold(false, |any, member| {
            let demoted = sources.map(|source| member.demote(source, true) == Demoted::Some);
            demoted.contains(&true) || any
        })
    }

    /// Moves the entries of sparse segments in the area together; whether there were any. Who is
    /// `patient` with a client waits for its locks.
    fn clean_area(&self, patient: impl Fn(&Arc<Member>) -> bool) -> bool {
        let Some(spill) = &self.budget.arena.spill else {
            return false;
        };
        if spill.rests() {
            return false;
        }
        let least = if spill.is_tight() { SPARSE } else { HALF_EMPTY };
        self.each_member().any(|member| {
            let log = &member.budget.log;
            log.spilled_dead() >= (log.spilled_bytes() / 8).max(SEGMENT as u64)
                && member.demote(Source::Area(least), patient(&member)) == Demoted::Some
        })
    }
}
