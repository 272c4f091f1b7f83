// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The cleaner: moves live entries out of sparse segments, which then go back to
//! the system.
//!
//! An entry is copied without locks, and then put in place of the old one under
//! its shard's lock, if that is still what is kept of the page. A get that has
//! found the old one has it pinned, and reads the same bytes.

use super::demotion::Demotion;
use super::{Effort, Member, Reclaimer};
use crate::budget::{LOAN, Shortage};
use crate::codec;
use crate::pool::Pages;
use crate::sync::{Arc, MutexGuard, PoisonError, TryLockError};
use crate::tier::{
    LARGEST, Location, Moved, Owner, PIECE, Payload, PoolTag, SEGMENT, Temperature, Victim,
};
use crate::types::ObjectId;

/// What came of cleaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cleaned {
    /// Memory came back, or room in the spill area.
    Memory,
    /// Somebody else is at it, or reads what is to come back.
    Busy,
    /// No memory came back.
    Nothing,
}

impl Cleaned {
    pub(super) fn memory(came: bool) -> Self {
        if came { Self::Memory } else { Self::Nothing }
    }

    pub(crate) fn is_memory(self) -> bool {
        self == Self::Memory
    }
}

/// What came of moving the entries of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evacuated {
    /// Entries that were looked at.
    pub(super) pages: u64,
    /// None of them is left, but somebody still reads one: its memory comes back soon.
    is_read: bool,
}

/// What becomes of the entries of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// They are moved as they are.
    AsTheyAre,
    /// Those that were not used are recompressed.
    Smaller,
}

/// Memory that is in use for moving entries.
#[derive(Debug, Default)]
struct Loan<'a> {
    reserve: Option<MutexGuard<'a, ()>>,
    /// What is to be paid out of the segment's memory.
    bytes: u64,
}

/// Pools and objects that a victim names, by number.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Option<(PoolTag, ObjectId)>>);

/// What a client's cleaner remembers while it works.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    pub(super) names: Names,
    pub(super) demotion: Demotion,
}

#[expect(clippy::cast_possible_truncation, reason = "a segment is small")]
const SEGMENT_BYTES: u32 = SEGMENT as u32;

/// Least dead bytes of a segment that is cleaned in the background.
const WORTHWHILE: u32 = SEGMENT_BYTES / 24;

/// Least dead bytes of a segment that is cleaned when memory is short, or when there is
/// nothing else to do.
const LEAST: u32 = SEGMENT_BYTES / 64;

/// Least dead bytes of a segment that is cleaned when memory is short and there is a spill area with
/// room: to write a segment there costs less than to move nearly all of one for the little that is
/// dead.
const DENSE: u32 = SEGMENT_BYTES / 8;

/// Instead of when a client was seen to have changed: there is nothing to do until it does.
const TIDY: u64 = u64::MAX;

impl Member {
    /// For how many milliseconds nothing was put or removed, as far as was looked; `None` if
    /// nearly all memory holds something, or no more of it can be had by cleaning.
    fn untidy_for(&self) -> Option<u64> {
        // What can still be appended to is not lost.
        let dead = self
            .budget
            .log
            .dead_bytes()
            .saturating_sub(self.budget.log.room());
        if dead <= (self.budget.log.backed_bytes() / 128).max(PIECE as u64) {
            return None;
        }
        let (changes, now) = (self.budget.counters.changes(), self.budget.arena().now());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != changes {
            *seen = (changes, now);
        }
        (seen.1 != TIDY).then(|| now.saturating_sub(seen.1))
    }

    /// Cleans a segment if nothing was put or removed for a second; whether memory came
    /// back.
    fn tidy(&self) -> bool {
        const REST: u64 = 1000;
        if self.untidy_for().is_none_or(|rest| rest < REST) {
            return false;
        }
        let came = self.clean(&mut Effort::at_rest(), true).is_memory();
        if !came {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.1 = TIDY;
        }
        came
    }

    /// The client's cleaner, unless somebody else has it; the `patient` wait until they are done.
    pub(super) fn try_cleaner(&self, patient: bool) -> Option<MutexGuard<'_, Cleaner>> {
        match self.cleaner.try_lock() {
            Ok(cleaner) => Some(cleaner),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                if patient {
                    drop(self.cleaner.lock());
                }
                None
            }
        }
    }

    /// Cleans a segment. Only the `patient` wait for locks.
    pub(crate) fn clean(&self, effort: &mut Effort, patient: bool) -> Cleaned {
        let least = if effort.is_thorough() {
            LEAST
        } else {
            WORTHWHILE
        };
        self.clean_sparser(least, effort, patient)
    }

    /// Cleans a segment for memory of the store, for which pages may be demoted as well.
    pub(super) fn clean_for_store(&self, effort: &mut Effort, patient: bool) -> Cleaned {
        if self.reclaimer.can_demote() {
            return self.clean_sparser(DENSE, effort, patient);
        }
        self.clean(effort, patient)
    }

    /// Cleans a segment that has `least` dead bytes.
    fn clean_sparser(&self, least: u32, effort: &mut Effort, patient: bool) -> Cleaned {
        if self.budget.log.dead_bytes() < LARGEST as u64 || !effort.look() {
            return Cleaned::Nothing;
        }
        // One at a time: each needs memory before it gives some back. Who waits gets
        // what the one before gave back.
        let Some(mut cleaner) = self.try_cleaner(patient) else {
            return if patient {
                Cleaned::Memory
            } else {
                Cleaned::Busy
            };
        };
        let arena = self.budget.arena();
        let before = self.budget.spent();
        let victim = self
            .budget
            .log
            .victim(arena, least, effort.moves())
            .or_else(|| {
                if !effort.is_urgent() {
                    return None;
                }
                self.budget
                    .credit_some(self.budget.log.close_sparse(arena, least));
                self.budget.log.victim(arena, least, effort.moves())
            });
        let Some(victim) = victim else {
            return Cleaned::memory(self.budget.spent() < before);
        };
        let Evacuated { is_read, .. } =
            self.evacuate(&mut cleaner, victim, How::AsTheyAre, effort, patient);
        self.budget.counters.cleaned_segments.add(1);
        match Cleaned::memory(self.budget.spent() < before) {
            Cleaned::Nothing if is_read => Cleaned::Busy,
            cleaned => cleaned,
        }
    }

    /// Moves all entries out of a segment, as far as there is memory.
    pub(super) fn evacuate(
        &self,
        cleaner: &mut Cleaner,
        victim: Victim,
        how: How,
        effort: &mut Effort,
        patient: bool,
    ) -> Evacuated {
        let arena = self.budget.arena();
        let mut loan = Loan::default();
        let mut pages = 0;
        self.each_page(&mut cleaner.names, &victim, |location, owner| {
            effort.moved();
            let moved = self.move_entry(&victim, location, owner, how, &mut loan, patient);
            pages += u64::from(moved);
            moved
        });
        let is_read = self.budget.log.is_only_read(arena, &victim);
        self.repay(self.budget.log.done(arena, victim), loan.bytes);
        Evacuated { pages, is_read }
    }

    /// Visits the pages in a victim, with where each entry is and whose it is, for as long as
    /// `visit` wants more. Whether nothing is left that could not be read.
    pub(super) fn each_page(
        &self,
        names: &mut Names,
        victim: &Victim,
        mut visit: impl FnMut(Location, &Owner<'_>) -> bool,
    ) -> bool {
        let mut at = 0;
        names.forget();
        while let Some(entry) = self.budget.log.next(self.budget.arena(), victim, &mut at) {
            match entry {
                Moved::Other => {}
                Moved::Name(name, pool, object) => names.add(name, pool, object),
                Moved::Page(location, name, index) => {
                    let Some((pool, object)) = names.get(name) else {
                        continue;
                    };
                    let owner = Owner {
                        pool,
                        object: &object,
                        index,
                    };
                    if !visit(location, &owner) {
                        return true;
                    }
                }
            }
        }
        victim.ends_at(at)
    }

    /// The pool with this tag, if it is still there.
    pub(super) fn pool_of(&self, tag: PoolTag) -> Option<Arc<Pages>> {
        let pool = self.pool(tag.id());
        pool.filter(|pool| pool.tag() == tag)
    }

    /// Moves an entry if its page is still kept there; `false` if there is no memory
    /// for it.
    fn move_entry<'a>(
        &'a self,
        victim: &Victim,
        location: Location,
        owner: &Owner<'_>,
        how: How,
        loan: &mut Loan<'a>,
        patient: bool,
    ) -> bool {
        let Some(pool) = self.pool_of(owner.pool) else {
            return true;
        };
        let Some(payload) = self.budget.arena().of_victim(victim, location) else {
            return true;
        };
        let mut place = |temperature, payload: Payload<'_>| {
            let charge = |bytes| self.charge_from(bytes, how, loan);
            let new = (location, payload);
            let appended = pool.append_instead(temperature, owner, new, patient, charge);
            appended.ok()
        };
        let moved = match how {
            How::AsTheyAre if victim.is_recompressed() => place(Temperature::Recompressed, payload),
            How::AsTheyAre => place(Temperature::Cold, payload),
            How::Smaller => match pool.was_used(owner, location) {
                None => Some(0),
                Some(true) => place(Temperature::Warm, payload),
                Some(false) => codec::recompress(payload, |smaller| {
                    let moved = place(Temperature::Recompressed, smaller);
                    if smaller != payload && moved.is_some_and(|bytes| bytes > 0) {
                        self.budget.counters.recompressed_pages.add(1);
                    }
                    moved
                }),
            },
        };
        self.budget.counters.moved_bytes.add(moved.unwrap_or(0));
        moved.is_some()
    }

    /// Finds memory for an entry that is moved: pages that are recompressed have memory of
    /// their own until the segment's comes back, so that puts never find less room.
    fn charge_from<'a>(
        &'a self,
        bytes: u64,
        how: How,
        loan: &mut Loan<'a>,
    ) -> Result<(), Shortage> {
        if how == How::Smaller {
            if loan.bytes + bytes > LOAN {
                return Err(Shortage::Store);
            }
            loan.bytes += bytes;
            return Ok(());
        }
        if self.budget.charge_for_moving(bytes) {
            return Ok(());
        }
        if loan.reserve.is_none() {
            loan.reserve = self.reclaimer.reserve();
        }
        loan.reserve.as_ref().ok_or(Shortage::Store)?;
        self.budget.charge_anyway(bytes);
        Ok(())
    }

    /// Credits what came back, but for what was borrowed.
    fn repay(&self, back: u64, borrowed: u64) {
        match back.checked_sub(borrowed) {
            Some(rest) => self.budget.credit_some(rest),
            None => self.budget.charge_anyway(borrowed - back),
        }
    }
}

impl Names {
    /// Another victim is looked through.
    fn forget(&mut self) {
        self.0.clear();
        self.0.reserve(64);
    }

    fn add(&mut self, name: u16, pool: PoolTag, object: ObjectId) {
        let at = usize::from(name);
        if self.0.len() <= at {
            self.0.resize(at + 1, None);
        }
        if let Some(place) = self.0.get_mut(at) {
            *place = Some((pool, object));
        }
    }

    fn get(&self, name: u16) -> Option<(PoolTag, ObjectId)> {
        *self.0.get(usize::from(name))?
    }
}

impl Reclaimer {
    /// The part of the store's memory that is for moving entries, unless somebody
    /// has it.
    fn reserve(&self) -> Option<MutexGuard<'_, ()>> {
        match self.reserve.try_lock() {
            Ok(reserve) => Some(reserve),
            Err(TryLockError::Poisoned(poisoned)) => Some(PoisonError::into_inner(poisoned)),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Cleans a segment of a client that is at rest, also if little of it is dead;
    /// whether there was one.
    pub(crate) fn tidy_some(&self) -> bool {
        self.each_member().any(|member| member.tidy())
    }

    /// Whether a client could be tidier once it is at rest.
    pub(crate) fn is_untidy(&self) -> bool {
        self.each_member()
            .any(|member| member.untidy_for().is_some())
    }

    /// Cleans a segment of the clients that are sparse; whether there may be more to
    /// do.
    pub(crate) fn clean_some(&self) -> bool {
        let mut any = false;
        for member in self.each_member() {
            if member.budget.is_sparse() {
                any |= member.clean(&mut Effort::tidying(), true).is_memory();
            }
        }
        any
    }
}
