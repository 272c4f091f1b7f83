// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Making room: who gives up what, and how much of it one operation may do.
//!
//! An operation that finds no memory makes room itself, but only with a bounded
//! effort, and it never waits for a lock in a pool of another client: what others
//! keep in the store can't hold it up. What it leaves undone is the task of the
//! background thread.

mod cleaner;

pub(crate) use cleaner::{Cleaned, Cleaner, LOAN};

use crate::sync::Arc;
use crate::sync::atomic::Ordering::Relaxed;

use crate::account::Account;
use crate::store::Shared;
use crate::tier::{PIECE, SEGMENT};
use crate::types::PoolKind;

/// What an operation may still do to make room.
#[derive(Debug)]
pub(crate) struct Effort {
    /// Looks for a block to evict; each costs about a microsecond.
    looks: u32,
    /// Pages moved that are not yet paid for.
    moves: u32,
    /// Pages to compress in line; each costs about ten.
    pages: u64,
    /// May wait for locks in pools of other clients.
    patient: bool,
    /// Memory is short.
    urgent: bool,
    /// Little is worth being done, too.
    thorough: bool,
}

impl Effort {
    /// For the put of one page, or the creation of a pool.
    pub(crate) fn one() -> Self {
        Self {
            looks: 1024,
            pages: 128,
            ..Self::run()
        }
    }

    /// For a run of pages.
    pub(crate) fn run() -> Self {
        Self {
            looks: 8192,
            pages: 1024,
            patient: false,
            ..Self::background()
        }
    }

    /// For a piece of the background thread's work.
    pub(crate) fn background() -> Self {
        Self {
            looks: 4096,
            moves: 0,
            pages: 512,
            patient: true,
            urgent: true,
            thorough: true,
        }
    }

    /// For what is done because there is time for it.
    pub(crate) fn tidying() -> Self {
        Self {
            urgent: false,
            thorough: false,
            ..Self::background()
        }
    }

    /// For what is done only when a client is at rest.
    pub(crate) fn at_rest() -> Self {
        Self {
            thorough: true,
            ..Self::tidying()
        }
    }

    /// Whether memory is short.
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Whether little is worth being done, too.
    pub(crate) fn is_thorough(&self) -> bool {
        self.thorough
    }

    /// Whether locks in pools of other clients may be waited for.
    pub(crate) fn is_patient(&self) -> bool {
        self.patient
    }

    /// Whether blocks may still be looked for.
    pub(crate) fn is_left(&self) -> bool {
        self.looks > 0
    }

    /// Whether pages may still be compressed.
    pub(crate) fn may_compress(&self) -> bool {
        self.pages > 0
    }

    /// Pays for a look; whether it may be done.
    pub(crate) fn look(&mut self) -> bool {
        let may = self.is_left();
        self.looks = self.looks.saturating_sub(1);
        may
    }

    /// Pages that may be moved, each of which costs a part of a look.
    pub(crate) fn moves(&self) -> u32 {
        self.looks.saturating_mul(Self::MOVES)
    }

    /// Pays for a page that was moved.
    pub(crate) fn moved(&mut self) {
        self.moves += 1;
        if self.moves == Self::MOVES {
            self.moves = 0;
            self.look();
        }
    }

    /// Pages that are moved in the time of a look.
    const MOVES: u32 = 8;

    /// Lets others run for a moment; whether it may be done.
    pub(crate) fn wait(&mut self) -> bool {
        /// Looks that take as long.
        const COST: u32 = 32;
        let may = self.is_left();
        if may {
            self.looks = self.looks.saturating_sub(COST);
            crate::sync::thread::yield_now();
        }
        may
    }

    /// Pays for pages that were compressed.
    pub(crate) fn compressed(&mut self, pages: u64) {
        self.pages = self.pages.saturating_sub(pages);
    }
}

/// Free bytes that are to be had again once somebody found too few.
const ROOM: u64 = 4 * SEGMENT as u64;

impl Shared {
    /// Whether there is room for a piece of page memory.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_for(PIECE as u64)
    }

    /// Whether there is room for so many bytes.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        self.ledger.held().saturating_add(bytes) <= self.limit()
    }

    /// Compresses some deferred pages, those of `account` first; whether it is
    /// worth looking for memory again.
    pub(crate) fn compress_now(&self, account: &Account, effort: &mut Effort) -> bool {
        if account.compress_now(effort, true) {
            return true;
        }
        let patient = effort.is_patient();
        self.has_deferred()
            && self
                .each_account()
                .any(|other| other.compress_now(effort, patient))
    }

    /// The accounts, one by one, without their list being locked meanwhile. Some
    /// may be missed if others come or go.
    fn each_account(&self) -> impl Iterator<Item = Arc<Account>> {
        (0..).map_while(|nth| self.accounts().get(nth).cloned())
    }

    /// Makes room in the store for a put of `account` to a pool of `kind`;
    /// whether it is worth trying again.
    ///
    /// A client that holds more than its share (the limit, split by weight) loses
    /// its own ephemeral pages first. Else the client that holds most for its
    /// weight loses some; but nobody's pages make room for ephemeral pages of a
    /// client that holds more for its weight.
    pub(crate) fn make_room(&self, account: &Account, kind: PoolKind, effort: &mut Effort) -> bool {
        if self.trim()
            || self.compress_now(account, effort)
            || account.clean(effort, true).is_memory()
            || self.clean_others(account, effort)
        {
            return true;
        }
        let accounts = self.accounts();
        let beyond = account.held() > share(self.limit(), account, &accounts);
        let victim = heaviest(&accounts);
        drop(accounts);
        if beyond && account.evict(effort, true) > 0 {
            return true;
        }
        let Some(victim) = victim else {
            return false;
        };
        if kind == PoolKind::Ephemeral && account.load() > victim.load() {
            return account.evict(effort, true) > 0;
        }
        let patient = effort.is_patient() || std::ptr::eq(account, Arc::as_ptr(&victim));
        // Only whole segments help another client.
        let mut evicted = false;
        while victim.give_up(effort, patient) {
            evicted = true;
            if self.has_room() {
                break;
            }
        }
        if !self.has_room() {
            self.want_room();
        }
        evicted
    }

    /// Cleans a segment of other clients; whether it is worth looking for memory
    /// again. Nobody's pages go while somebody's dead bytes are left.
    fn clean_others(&self, account: &Account, effort: &mut Effort) -> bool {
        let patient = effort.is_patient();
        let mut busy = false;
        for other in self.each_account() {
            let is_own = std::ptr::eq(account, Arc::as_ptr(&other));
            if is_own || other.log.dead_bytes() < SEGMENT as u64 {
                continue;
            }
            match other.clean(effort, patient) {
                Cleaned::Memory => return true,
                Cleaned::Busy => busy = true,
                Cleaned::Nothing => {}
            }
        }
        // What is being cleaned comes back soon.
        busy && effort.wait()
    }

    /// Gives segments without pages back; whether there was any.
    fn trim(&self) -> bool {
        let accounts = self.accounts();
        accounts.iter().fold(false, |any, other| other.trim() | any)
    }

    /// Has the background thread make room: somebody found too little.
    pub(crate) fn want_room(&self) {
        self.wants_room.store(true, Relaxed);
        self.wake();
    }

    /// A piece of what an operation must not do itself: brings clients within
    /// lowered quotas, and makes room where somebody found too little. Whether
    /// there is more to do.
    pub(crate) fn reclaim_some(&self) -> bool {
        let mut effort = Effort::background();
        if self.shrinks.swap(false, Relaxed) {
            for account in self.each_account() {
                if account.shrink(&mut effort) {
                    self.shrinks.store(true, Relaxed);
                    return true;
                }
            }
        }
        if !self.wants_room.load(Relaxed) {
            return false;
        }
        let is_unfinished = self.evict_some(&mut effort);
        self.wants_room.store(is_unfinished, Relaxed);
        is_unfinished
    }

    /// Evicts ephemeral pages until there is some room; whether effort ended first.
    pub(crate) fn evict_some(&self, effort: &mut Effort) -> bool {
        let patient = effort.is_patient();
        while !self.has_room_for(ROOM) {
            let victim = heaviest(&self.accounts());
            let evicted = victim.is_some_and(|victim| victim.give_up(effort, patient));
            if !effort.is_left() {
                return true;
            }
            if !evicted {
                break;
            }
        }
        false
    }
}

/// Of the clients with ephemeral pages, the one that holds most for its weight.
fn heaviest(accounts: &[Arc<Account>]) -> Option<Arc<Account>> {
    let with_pages = accounts.iter().filter(|other| other.can_evict());
    with_pages.max_by_key(|other| other.load()).cloned()
}

/// The part of `limit` that is due to `account` among `all`. The weights are added up
/// each time, so those of clients that are gone can't be left in the sum.
fn share(limit: u64, account: &Account, all: &[Arc<Account>]) -> u64 {
    let sum: u128 = all.iter().map(|other| u128::from(other.weight())).sum();
    let share = u128::from(limit) * u128::from(account.weight()) / sum.max(1);
    u64::try_from(share).unwrap_or(limit)
}
