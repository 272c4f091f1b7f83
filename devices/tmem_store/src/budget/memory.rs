// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page memory of a client: charged before it is taken, credited once it came back.

use super::{Budget, Room, Shortage};
use crate::sync::atomic::Ordering::Relaxed;
use crate::tier::{Content, Entry, EntryRef, Owner, Payload, Pin, Short, Temperature};

/// Spare segments that an operation gives back at a time; each takes some 20 microseconds.
const AT_ONCE: usize = 8;

impl Budget {
    /// Finds room for a page. Takes new memory only within quota and limit.
    pub(crate) fn keep(
        &self,
        owner: &Owner<'_>,
        payload: Payload<'_>,
        room: Room,
    ) -> Result<Content, Shortage> {
        // A client over its quota (which was lowered) gets no new page kept,
        // not even in memory that it holds already.
        if !self.may_keep(room) {
            return Err(Shortage::Client);
        }
        if let Some(shortage) = self.is_overdrawn() {
            return Err(shortage);
        }
        if let Some(entry) = self.fill(owner, payload) {
            return Ok(Content::Entry(entry));
        }
        let charge = |bytes| self.charge_for(room, bytes);
        let warm = self.append_ahead(Temperature::Warm, owner, payload, charge);
        warm.or_else(|shortage| {
            // Room that is there is better than the right place.
            let none = |_| Err(shortage);
            self.append(Temperature::Cold, owner, payload, none)
        })
        .map(Content::Entry)
    }

    /// Keeps an entry in the place of one that was freed, if memory is tight and one is
    /// known that fits.
    pub(super) fn fill(&self, owner: &Owner<'_>, payload: Payload<'_>) -> Option<Entry> {
        if !self.is_tight() {
            return None;
        }
        let mut back = 0;
        let entry = self.log.fill(self.arena(), owner, payload, &mut back);
        self.credit_some(back);
        entry
    }

    /// Appends an entry to the client's log; `charge` is asked for the memory that
    /// it takes.
    pub(crate) fn append(
        &self,
        temperature: Temperature,
        owner: &Owner<'_>,
        payload: Payload<'_>,
        charge: impl FnMut(u64) -> Result<(), Shortage>,
    ) -> Result<Entry, Shortage> {
        self.append_charged(temperature, owner, payload, charge, false)
    }

    /// As [`Budget::append`]; memory is charged for the next entries, too, as far as quota and
    /// limit allow that easily.
    pub(crate) fn append_ahead(
        &self,
        temperature: Temperature,
        owner: &Owner<'_>,
        payload: Payload<'_>,
        charge: impl FnMut(u64) -> Result<(), Shortage>,
    ) -> Result<Entry, Shortage> {
        self.append_charged(temperature, owner, payload, charge, true)
    }

    fn append_charged(
        &self,
        temperature: Temperature,
        owner: &Owner<'_>,
        payload: Payload<'_>,
        mut charge: impl FnMut(u64) -> Result<(), Shortage>,
        is_ahead: bool,
    ) -> Result<Entry, Shortage> {
        let arena = self.arena();
        let mut grant = 0;
        let entry = loop {
            match self
                .log
                .append(arena, temperature, owner, payload, &mut grant)
            {
                Ok(entry) => break Ok(entry),
                Err(Short::System) => break Err(Shortage::System),
                Err(Short::Memory { least, wanted }) => {
                    let is_more = is_ahead && grant == 0 && wanted > least;
                    if is_more && !self.is_tight() && self.charge(wanted).is_ok() {
                        grant = wanted;
                        continue;
                    }
                    let more = least.saturating_sub(grant);
                    if let Err(shortage) = charge(more) {
                        break Err(shortage);
                    }
                    grant += more;
                }
            }
        };
        // Somebody else may have taken memory for this one, too.
        self.credit_some(grant);
        entry
    }

    /// Makes an entry what is kept of its page, also for who makes the index anew.
    /// To be called with the lock of its shard held, before what it replaces is
    /// buried.
    pub(crate) fn publish(&self, entry: EntryRef<'_>) {
        self.arena().publish(entry);
    }

    /// Makes sure that an entry is not found again by who makes the index anew. To be
    /// called before the lock of its shard is let go of: others may keep a newer page
    /// then.
    pub(crate) fn bury(&self, entry: EntryRef<'_>) {
        self.arena().bury(entry);
    }

    /// Gives the memory of a page back.
    pub(crate) fn free(&self, content: Content) {
        self.freed_since_refusal.fetch_add(1, Relaxed);
        let is_deferred = matches!(content, Content::Deferred(_));
        self.free_entry(content.into_entry());
        if is_deferred {
            self.end_deferred();
        }
    }

    /// Gives the memory of an entry back.
    pub(crate) fn free_entry(&self, entry: Entry) {
        let (is_tight, had_spare) = (self.is_tight(), self.log.has_spare());
        self.credit_some(self.log.free(self.arena(), entry, is_tight));
        let has_spare = self.log.has_spare();
        if has_spare && (is_tight || !self.store.has_helpers()) {
            self.drop_spare(1);
        }
        // Somebody has to see that what is spare goes once it is not used.
        if self.is_sparse() || (has_spare && !had_spare) {
            self.store.wake_up.wake();
        }
    }

    /// The payload behind a pin; `None` if its codec is not known.
    pub(crate) fn pinned<'a>(&'a self, pin: &'a Pin) -> Option<Payload<'a>> {
        // Others may do anything by now; the scheduler has no other place to see that.
        #[cfg(shuttle)]
        crate::sync::thread::yield_now();
        self.arena().pinned(pin)
    }

    /// Ends a pin.
    pub(crate) fn unpin(&self, pin: Pin) {
        self.credit_some(self.log.unpin(self.arena(), pin));
    }

    /// Gives unused page memory back to the system; whether there was any.
    pub(crate) fn trim(&self) -> bool {
        let bytes = self.log.retire(self.arena(), AT_ONCE);
        self.credit_some(bytes);
        bytes > 0
    }

    /// Gives up to `most` segments back that are there for the next deferred pages.
    pub(crate) fn drop_spare(&self, most: usize) {
        let credit = |bytes| self.credit(bytes);
        self.log.drop_spare(self.arena(), most, credit);
    }

    /// Gives back what of them nobody has needed for a while; whether some are left.
    pub(crate) fn drop_unneeded(&self) -> bool {
        let (arena, log) = (self.arena(), &self.log);
        let unneeded = log.unneeded(arena);
        if unneeded > 0 {
            self.drop_spare(unneeded);
            if !log.has_spare() {
                self.drop_all_spare();
            }
        }
        log.has_spare()
    }

    /// Gives all of them back, and the one that deferred pages were put to last if it is empty.
    pub(crate) fn drop_all_spare(&self) {
        let credit = |bytes| self.credit_some(bytes);
        self.log
            .retire_head(self.arena(), Temperature::Deferred, credit);
        self.drop_spare(usize::MAX);
    }

    /// Credits what came back, if anything did.
    pub(crate) fn credit_some(&self, bytes: u64) {
        if bytes > 0 {
            self.credit(bytes);
        }
    }
}
