// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The cleaner: moves live entries out of sparse segments, which then go back to
//! the system.
//!
//! An entry is copied without locks, and then put in place of the old one under
//! its shard's lock, if that is still what is kept of the page. A get that has
//! found the old one has it pinned, and reads the same bytes.

use crate::sync::{MutexGuard, PoisonError, TryLockError};

use super::Effort;
use crate::account::{Account, Shortage};
use crate::tier::{LARGEST, Location, Moved, Owner, PIECE, PoolTag, SEGMENT, Temperature, Victim};
use crate::types::ObjectId;

/// What came of cleaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cleaned {
    /// Memory came back.
    Memory,
    /// Somebody else is at it.
    Busy,
    /// No memory came back.
    Nothing,
}

impl Cleaned {
    fn memory(came: bool) -> Self {
        if came { Self::Memory } else { Self::Nothing }
    }

    pub(crate) fn is_memory(self) -> bool {
        self == Self::Memory
    }
}

/// What a client's cleaner remembers while it works.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    /// Pools and objects that the victim names, by number.
    names: Vec<Option<(PoolTag, ObjectId)>>,
}

#[expect(clippy::cast_possible_truncation, reason = "a segment is small")]
const SEGMENT_BYTES: u32 = SEGMENT as u32;

/// Least dead bytes of a segment that is cleaned in the background.
const WORTHWHILE: u32 = SEGMENT_BYTES / 24;

/// Least dead bytes of a segment that is cleaned when memory is short.
const LEAST: u32 = SEGMENT_BYTES / 64;

impl Account {
    /// Whether so much memory holds nothing that it is worth being cleaned in the
    /// background.
    pub(crate) fn is_sparse(&self) -> bool {
        let dead = self.log.dead_bytes();
        dead > (self.log.backed_bytes() / 24).max(4 * PIECE as u64)
    }

    /// Cleans a segment. Only the `patient` wait for locks.
    pub(crate) fn clean(&self, effort: &mut Effort, patient: bool) -> Cleaned {
        let least = if effort.is_urgent() {
            LEAST
        } else {
            WORTHWHILE
        };
        if self.log.dead_bytes() < LARGEST as u64 || !effort.look() {
            return Cleaned::Nothing;
        }
        // One at a time: each needs memory before it gives some back. Who waits gets
        // what the one before gave back.
        let mut cleaner = match self.cleaner.try_lock() {
            Ok(cleaner) => cleaner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                if !patient {
                    return Cleaned::Busy;
                }
                drop(self.cleaner.lock());
                return Cleaned::Memory;
            }
        };
        let arena = &self.shared.arena;
        let spent = || self.held().saturating_sub(self.log.room());
        let before = spent();
        let victim = self.log.victim(arena, least, effort.moves()).or_else(|| {
            if !effort.is_urgent() {
                return None;
            }
            self.credit_some(self.log.close_sparse(arena, least));
            self.log.victim(arena, least, effort.moves())
        });
        let Some(victim) = victim else {
            return Cleaned::memory(spent() < before);
        };
        let reserve = &mut None;
        let mut at = 0;
        cleaner.names.clear();
        cleaner.names.reserve(64);
        while let Some(entry) = self.log.next(arena, &victim, &mut at) {
            match entry {
                Moved::Other => {}
                Moved::Name(name, pool, object) => cleaner.name(name, pool, object),
                Moved::Page(location, name, index) => {
                    effort.moved();
                    let Some((pool, object)) = cleaner.named(name) else {
                        continue;
                    };
                    let owner = Owner {
                        pool,
                        object: &object,
                        index,
                    };
                    if !self.move_entry(&victim, location, &owner, reserve, patient) {
                        break;
                    }
                }
            }
        }
        self.credit_some(self.log.done(arena, victim));
        self.counters.cleaned_segments.add(1);
        Cleaned::memory(spent() < before)
    }

    /// Moves an entry if its page is still kept there; `false` if there is no memory
    /// for it.
    fn move_entry<'a>(
        &'a self,
        victim: &Victim,
        location: Location,
        owner: &Owner<'_>,
        reserve: &mut Option<MutexGuard<'a, ()>>,
        patient: bool,
    ) -> bool {
        let pool = self.pools().get(&owner.pool.id()).cloned();
        let Some(pool) = pool.filter(|pool| pool.tag() == owner.pool) else {
            return true;
        };
        let Some(payload) = self.shared.arena.of_victim(victim, location) else {
            return true;
        };
        let charge = |bytes| {
            if self.charge_for_moving(bytes) {
                return Ok(());
            }
            if reserve.is_none() {
                *reserve = self.shared.reserve();
            }
            reserve.as_ref().ok_or(Shortage::Store)?;
            self.charge_anyway(bytes);
            Ok(())
        };
        let Ok(new) = self.append(Temperature::Cold, owner, payload, charge) else {
            return false;
        };
        let len = new.footprint() as u64;
        match pool.move_entry(owner, location, new, patient) {
            Ok(()) => self.counters.moved_bytes.add(len),
            Err(new) => self.free_entry(new),
        }
        true
    }
}

impl Cleaner {
    fn name(&mut self, name: u16, pool: PoolTag, object: ObjectId) {
        let at = usize::from(name);
        if self.names.len() <= at {
            self.names.resize(at + 1, None);
        }
        if let Some(place) = self.names.get_mut(at) {
            *place = Some((pool, object));
        }
    }

    fn named(&self, name: u16) -> Option<(PoolTag, ObjectId)> {
        *self.names.get(usize::from(name))?
    }
}

impl crate::store::Shared {
    /// The part of the store's memory that is for moving entries, unless somebody
    /// has it.
    fn reserve(&self) -> Option<MutexGuard<'_, ()>> {
        match self.reserve.try_lock() {
            Ok(reserve) => Some(reserve),
            Err(TryLockError::Poisoned(poisoned)) => Some(PoisonError::into_inner(poisoned)),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Cleans a segment of the clients that are sparse; whether there may be more to
    /// do.
    pub(crate) fn clean_some(&self) -> bool {
        let mut any = false;
        for account in self.each_account() {
            if account.is_sparse() {
                let cleaned = account.clean(&mut Effort::tidying(), true);
                any |= cleaned.is_memory();
            }
        }
        any
    }
}
