// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Trying, making room, and trying again: whatever needs memory for a client comes here.

use super::member::compress_while;
use super::{Effort, Member};
use crate::budget::Shortage;
use crate::pool::{Attempt, Pages};
use crate::types::{PoolKind, Put};

/// Something that needs memory.
pub(crate) trait Request {
    /// What comes of it.
    type Done;

    /// Does it, if there is memory.
    ///
    /// # Errors
    /// What there is too little of.
    fn run(&mut self) -> Result<Self::Done, Shortage>;

    /// The kind of pool that the memory is for.
    fn kind(&self) -> PoolKind;

    /// The pool that the memory is for, if it is there.
    fn pool(&self) -> Option<&Pages> {
        None
    }

    /// Gives up what it has itself; whether there was anything.
    fn give_up_own(&mut self) -> bool {
        false
    }
}

impl Request for Attempt<'_> {
    type Done = Put;

    fn run(&mut self) -> Result<Put, Shortage> {
        Attempt::run(self)
    }

    fn kind(&self) -> PoolKind {
        self.pages().kind()
    }

    fn pool(&self) -> Option<&Pages> {
        Some(self.pages())
    }

    fn give_up_own(&mut self) -> bool {
        self.give_up_older()
    }
}

impl Member {
    /// Puts a page that needs memory, or refuses it.
    pub(crate) fn find_memory(&self, mut attempt: Attempt<'_>, effort: &mut Effort) -> Put {
        self.retry(&mut attempt, effort)
            .unwrap_or_else(|shortage| attempt.refuse(shortage))
    }

    /// Tries until it is done, or no more room can be made with this effort.
    ///
    /// # Errors
    /// What there is too little of.
    pub(crate) fn retry<R: Request>(
        &self,
        request: &mut R,
        effort: &mut Effort,
    ) -> Result<R::Done, Shortage> {
        loop {
            let committed = self.budget.committed();
            effort.looks_after(self.reclaimer.budget.demotion.turns());
            let shortage = match request.run() {
                Ok(done) => return Ok(done),
                Err(shortage) => shortage,
            };
            let more = self.compress_for(request, shortage, effort)
                || request.give_up_own()
                || self.make_room(request, shortage, effort)
                // Nothing may be left to do because others have done it.
                || (self.budget.has_come_back(committed) && effort.wait())
                || effort.sleep();
            if !more {
                return Err(shortage);
            }
        }
    }

    /// Compresses deferred pages, whose memory is `shortage`; whether it is worth trying
    /// again.
    fn compress_for(
        &self,
        request: &impl Request,
        shortage: Shortage,
        effort: &mut Effort,
    ) -> bool {
        match (shortage, request.pool()) {
            (Shortage::Pool, None) => false,
            (Shortage::Pool, Some(pool)) => {
                compress_while(effort, || pool.deferred() > 0, || pool.compress_now(true))
            }
            (Shortage::Kind | Shortage::Client, _) => self.compress_now(effort, true),
            (Shortage::Store | Shortage::System, _) => self.reclaimer.compress_now(self, effort),
        }
    }

    /// Gives memory up, ephemeral pages last; whether it is worth trying again.
    fn make_room(&self, request: &impl Request, shortage: Shortage, effort: &mut Effort) -> bool {
        let is_of_store = matches!(shortage, Shortage::Store | Shortage::System);
        if is_of_store && request.kind() == PoolKind::Persistent {
            return self.reclaimer.make_room_or_demote(self, effort);
        }
        if !effort.is_left() {
            return false;
        }
        match (shortage, request.pool()) {
            (Shortage::Pool, None) => false,
            (Shortage::Pool, Some(pool)) => {
                // It may be spared or somebody else's by now: try again then.
                let oldest = pool.oldest().filter(|_| effort.look());
                let evicted = oldest.map(|(_, shard)| pool.evict(shard, true, true));
                evicted.is_some()
            }
            (Shortage::Kind, _) => self.evict(effort, true) > 0,
            (Shortage::Client, _) => self.make_own_room(effort),
            (Shortage::Store | Shortage::System, _) => {
                self.reclaimer.make_room(self, request.kind(), effort)
            }
        }
    }
}
