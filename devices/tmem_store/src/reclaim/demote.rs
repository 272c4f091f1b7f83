// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Demotion: pages that were not used for long go to the spill area, a segment at a time.
//!
//! Entries are copied into a segment of its own, which is written to the area, and then put in place of
//! the old ones, each under its shard's lock, as the cleaner does it. So segments in the area are full
//! when they are written. Those that are sparse later are cleaned in the same way: into another one.
//!
//! Ephemeral pages are evicted instead, and pages of one repeated word stay: they take next to nothing.

use super::cleaner::{Cleaned, Names};
use super::demotion::Pending;
use super::{Effort, Member, Reclaimer};
use crate::budget::{Shortage, Waited};
use crate::pool::Pages;
use crate::sync::Arc;
use crate::sync::atomic::Ordering::Relaxed;
use crate::tier::{
    Codec, Location, Owner, Packer, Payload, SEGMENT, Spilled, Stub, Temperature, Victim,
};
use crate::types::PoolKind;
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

/// What came of copying the entries of a victim.
#[derive(Clone, Copy, Debug)]
struct Gathered {
    /// There is room for more.
    has_room: bool,
    /// As far as it was looked, entries are as they were written.
    is_whole: bool,
}

impl Gathered {
    /// Nothing could be read.
    const UNREAD: Self = Self {
        has_room: true,
        is_whole: false,
    };
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
    fn demote(&self, source: Source, patient: bool) -> Cleaned {
        let Some(mut cleaner) = self.try_cleaner(patient) else {
            return Cleaned::Busy;
        };
        let (arena, told) = (self.budget.arena(), &self.reclaimer.budget.demotion);
        let mut demotion = std::mem::take(&mut cleaner.demotion);
        let mut names = std::mem::take(&mut cleaner.names);
        // Others may clean while this waits for a disk or another host: what it gathers from is held. From
        // the area it reads before, too, and takes no memory for what stays there.
        let mut of_memory = (source == Source::Memory).then_some(cleaner);
        let draft = demotion.draft.take();
        let mut draft = draft.unwrap_or_else(Packer::new);
        draft.begin(arena.next_sequence());
        let before = self.budget.spent();
        let mut victims = Vec::with_capacity(SOURCES);
        for _ in 0..LOOKED_THROUGH {
            let victim = self.source(source);
            told.answered();
            let Some(victim) = victim else {
                break;
            };
            let gathered = demotion.pending.len();
            let into = (&mut demotion.pending, &mut draft);
            let found = self.gather(&mut names, &victim, into, patient);
            if demotion.pending.len() > gathered {
                victims.push((victim, found));
            } else {
                // What was in it is gone, or elsewhere in memory.
                self.give_back(victim, found);
            }
            if !found.has_room || victims.len() == SOURCES {
                break;
            }
        }
        if let Some(cleaner) = &mut of_memory {
            cleaner.names = names;
        }
        drop(of_memory);
        let cleans = source != Source::Memory;
        let spilled = self.write(&mut demotion.pending, &mut draft, cleans, patient);
        demotion.pending.clear();
        demotion.draft = Some(draft);
        if let Some(mut cleaner) = self.try_cleaner(false) {
            cleaner.demotion = demotion;
        }
        for (victim, found) in victims {
            self.give_back(victim, found);
        }
        let is_written = spilled.is_some();
        if let Some(spilled) = spilled {
            self.budget
                .credit_some(self.budget.log.seal_spilled(arena, spilled));
        }
        // Also if nothing was written: ephemeral pages may be gone.
        Cleaned::memory(is_written || self.budget.spent() < before)
    }

    /// Moves entries of sparse segments in the area together, because the quota is used up; whether it
    /// is worth trying again.
    pub(super) fn clean_spilled(&self, effort: &mut Effort) -> bool {
        if self.budget.log.spilled_dead() < SEGMENT as u64 || !effort.write() {
            return false;
        }
        if self.reclaimer.is_for_demoter() {
            self.wants_area_cleaned.store(true, Relaxed);
            return self.wait_for_demoter(effort);
        }
        match self.demote(Source::Area(LEAST), true) {
            Cleaned::Memory => true,
            Cleaned::Busy => effort.wait(),
            Cleaned::Nothing => false,
        }
    }

    /// Waits a while for pages to leave memory; whether it is worth trying again.
    fn wait_for_demoter(&self, effort: &mut Effort) -> bool {
        let waited = effort.wait_for(&self.reclaimer.budget.demotion);
        if waited == Waited::Stalls {
            self.budget.counters.spill_stalls.add(1);
        }
        waited == Waited::Ended
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
                    self.give_back(unread, Gathered::UNREAD);
                    None
                }
            },
        }
    }

    /// Gives a victim back. What cannot be read is not tried again.
    fn give_back(&self, victim: Victim, found: Gathered) {
        let (arena, log) = (self.budget.arena(), &self.budget.log);
        let bytes = if found.is_whole || victim.is_in_memory() {
            log.done(arena, victim)
        } else {
            self.budget.counters.spill_read_errors.add(1);
            log.leave(arena, victim)
        };
        self.budget.credit_some(bytes);
    }

    /// Copies the entries of a victim.
    fn gather(
        &self,
        names: &mut Names,
        victim: &Victim,
        (pending, draft): (&mut Vec<Pending>, &mut Packer),
        patient: bool,
    ) -> Gathered {
        let arena = self.budget.arena();
        let mut has_room = true;
        let is_whole = self.each_page(names, victim, |location, owner| {
            let Some(pool) = self.pool_of(owner.pool) else {
                return true;
            };
            if pool.kind() == PoolKind::Ephemeral {
                pool.evict_entry(owner, location, patient);
                return true;
            }
            let Some(payload) = arena.of_victim(victim, location) else {
                return true;
            };
            let stays = victim.is_in_memory() && stays(&pool, owner, location, payload);
            if stays && self.keep_in_memory(&pool, owner, location, payload, patient) {
                return true;
            }
            let Some(new) = draft.push(owner, payload) else {
                has_room = false;
                return false;
            };
            pending.push(Pending {
                pool,
                object: *owner.object,
                index: owner.index,
                old: location,
                new,
            });
            true
        });
        Gathered { has_room, is_whole }
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
        let new = (old, payload);
        let appended = pool.append_instead(Temperature::Cold, owner, new, patient, charge);
        appended.is_ok()
    }

    /// Writes what was gathered, and has it kept instead of what it was copied from.
    fn write(
        &self,
        pending: &mut Vec<Pending>,
        draft: &mut Packer,
        cleans: bool,
        patient: bool,
    ) -> Option<Spilled> {
        if draft.is_empty() {
            return None;
        }
        let (arena, log) = (self.budget.arena(), &self.budget.log);
        let (start, counters) = (Instant::now(), &self.budget.counters);
        let spilled = log.spill(arena, draft, cleans);
        self.reclaimer.budget.demotion.answered();
        let spilled = match spilled {
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
        for page in pending.drain(..) {
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

/// Whether a page is better kept in memory, if there is any.
fn stays(pool: &Pages, owner: &Owner<'_>, at: Location, payload: Payload<'_>) -> bool {
    payload.codec == Codec::Same || pool.was_used(owner, at) == Some(true)
}

impl Reclaimer {
    /// Whether there is a spill area with room, and pages go there soon.
    pub(super) fn can_demote(&self) -> bool {
        self.has_area() && !self.budget.demotion.is_stalled()
    }

    /// Whether there is a spill area with room.
    fn has_area(&self) -> bool {
        let spill = self.budget.arena.spill.as_ref();
        spill.is_some_and(|spill| spill.has_room() || (spill.is_tight() && !spill.rests()))
    }

    /// Of the clients with pages to be demoted, the one that holds most memory for its weight.
    fn to_demote(&self) -> Option<Arc<Member>> {
        let members = self.members();
        let can = members.iter().filter(|member| member.can_demote());
        can.max_by_key(|member| member.budget.load()).cloned()
    }

    /// Makes room in the store for a persistent page of `member`, in the spill area if memory has
    /// none; whether it is worth trying again.
    pub(super) fn make_room_or_demote(&self, member: &Member, effort: &mut Effort) -> bool {
        let is_made = effort.is_left() && self.make_room(member, PoolKind::Persistent, effort);
        is_made || self.demote_for(member, effort)
    }

    /// Demotes pages because a put found no memory: those of whoever holds most for its weight.
    /// Whether it is worth trying again.
    fn demote_for(&self, member: &Member, effort: &mut Effort) -> bool {
        if !self.can_demote() || !effort.write() {
            return false;
        }
        if self.is_for_demoter() {
            return member.wait_for_demoter(effort);
        }
        let Some(other) = self.to_demote() else {
            return false;
        };
        let is_patient = effort.is_patient();
        let patient = |of: &Arc<Member>| is_patient || std::ptr::eq(member, Arc::as_ptr(of));
        match other.demote(Source::Memory, patient(&other)) {
            Cleaned::Memory => true,
            Cleaned::Busy => effort.wait(),
            Cleaned::Nothing => self.clean_area(patient) && effort.wait(),
        }
    }

    /// Whether only the demoter writes to the area: nobody else should have to wait for it. Where others
    /// have to answer, nobody else may speak to them either, also if there is no demoter.
    fn is_for_demoter(&self) -> bool {
        self.budget.arena.is_remote() || self.budget.demotion.has_thread()
    }

    /// As [`Reclaimer::demote_some`], unless there is a thread for it, which is told then.
    pub(super) fn demote_unless_others_do(&self) -> bool {
        if !self.is_for_demoter() {
            return self.demote_some();
        }
        if self.budget.is_tight() {
            self.budget.demotion.want();
        }
        false
    }

    /// Demotes pages while little memory is left; whether there is more to do.
    pub(crate) fn demote_some(&self) -> bool {
        if self.budget.arena.spill.is_none() {
            return false;
        }
        let is_short = self.budget.demotion.take_due() || self.budget.is_tight();
        let cleaned = self.clean_full() || self.clean_area(|_| true);
        if !is_short || !self.has_area() {
            return cleaned;
        }
        let other = self.to_demote();
        let demoted = other.is_some_and(|it| it.demote(Source::Memory, true) == Cleaned::Memory);
        demoted || cleaned
    }

    /// Demotes a segment of each client, and cleans one in the area.
    #[cfg(test)]
    pub(crate) fn demote_now(&self) -> bool {
        let sources = [Source::Memory, Source::Area(SPARSE)];
        self.each_member().fold(false, |any, member| {
            let demoted = sources.map(|source| member.demote(source, true) == Cleaned::Memory);
            demoted.contains(&true) || any
        })
    }

    /// Moves entries of sparse segments in the area together for a client whose quota is used up;
    /// whether there were any.
    fn clean_full(&self) -> bool {
        self.each_member().any(|member| {
            member.wants_area_cleaned.swap(false, Relaxed)
                && member.demote(Source::Area(LEAST), true) == Cleaned::Memory
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
                && member.demote(Source::Area(least), patient(&member)) == Cleaned::Memory
        })
    }
}
