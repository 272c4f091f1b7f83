// SPDX-License-Identifier: GPL-2.0

//! Puts under way: which pages, and with which tickets. Each operation takes the same time however
//! many there are.

use super::ticket::Ticket;
use kernel::prelude::*;

#[derive(Clone, Copy)]
struct Put {
    page: u64,
    ticket: Ticket,
}

/// Puts by their pages: a table in which what is not in its own place is in one of the next, without
/// a gap in between. What is further from its own place comes first ("Robin Hood hashing", Celis,
/// Larson and Munro, 1985), so that a put among many of pages side by side, each in its own place, is
/// found, added and taken out without a look at the others.
pub(crate) struct Puts {
    slots: KVVec<Option<Put>>,
    count: usize,
    most: usize,
}

impl Puts {
    /// None, of `most` at a time.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(most: usize) -> Result<Self> {
        // Half of it is empty, so that gaps are near.
        let size = (2 * most).next_power_of_two();
        Ok(Self {
            slots: KVVec::from_elem(None, size, GFP_KERNEL)?,
            count: 0,
            most,
        })
    }

    /// Bytes that it takes for `most` at a time.
    pub(crate) fn bytes(most: usize) -> u64 {
        ((2 * most).next_power_of_two() * size_of::<Option<Put>>()) as u64
    }

    /// The place of a page: neighbours are neighbours, which is what they come as.
    fn home(&self, page: u64) -> usize {
        page as usize & (self.slots.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    fn slot(&self, at: usize) -> Option<Put> {
        self.slots.get(at).copied().flatten()
    }

    /// How far `page` would be from its own place at `at`.
    fn away(&self, page: u64, at: usize) -> usize {
        at.wrapping_sub(self.home(page)) & (self.slots.len() - 1)
    }

    /// Where `page` would be, and its put if that is there.
    fn find(&self, page: u64) -> (usize, Option<Put>) {
        let (mut at, mut away) = (self.home(page), 0);
        while let Some(put) = self.slot(at) {
            if put.page == page {
                return (at, Some(put));
            }
            if self.away(put.page, at) < away {
                break;
            }
            at = self.next(at);
            away += 1;
        }
        (at, None)
    }

    /// The ticket of the put of `page`.
    pub(crate) fn get(&self, page: u64) -> Option<Ticket> {
        self.find(page).1.map(|put| put.ticket)
    }

    /// Whether there are as many as there may be.
    pub(crate) fn is_full(&self) -> bool {
        self.count >= self.most
    }

    /// Adds a put of `page`. Says whether it could: it can't when there is one of it, or too many.
    pub(crate) fn add(&mut self, page: u64, ticket: Ticket) -> bool {
        if self.is_full() {
            return false;
        }
        let (mut at, found) = self.find(page);
        if found.is_some() {
            return false;
        }
        // What is there, and all behind that, moves on by one.
        let mut put = Put { page, ticket };
        while let Some(next) = self.slots.get_mut(at).and_then(|slot| slot.replace(put)) {
            put = next;
            at = self.next(at);
        }
        self.count += 1;
        true
    }

    /// Takes the put of `page` out.
    pub(crate) fn remove(&mut self, page: u64) {
        let (mut gap, found) = self.find(page);
        if found.is_none() {
            return;
        }
        self.count -= 1;
        // What is not in its own place moves back by one.
        let mut at = self.next(gap);
        while let Some(put) = self.slot(at).filter(|put| self.away(put.page, at) > 0) {
            if let Some(slot) = self.slots.get_mut(gap) {
                *slot = Some(put);
            }
            gap = at;
            at = self.next(at);
        }
        if let Some(slot) = self.slots.get_mut(gap) {
            *slot = None;
        }
    }
}
