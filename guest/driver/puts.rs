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
/// a gap in between.
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

    /// Where `page` is, or the gap where it would be.
    fn find(&self, page: u64) -> usize {
        let mut at = self.home(page);
        while self.slot(at).is_some_and(|put| put.page != page) {
            at = self.next(at);
        }
        at
    }

    /// The ticket of the put of `page`.
    pub(crate) fn get(&self, page: u64) -> Option<Ticket> {
        self.slot(self.find(page)).map(|put| put.ticket)
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
        let at = self.find(page);
        match self.slots.get_mut(at) {
            Some(slot @ None) => {
                *slot = Some(Put { page, ticket });
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    /// Takes the put of `page` out.
    pub(crate) fn remove(&mut self, page: u64) {
        let mut gap = self.find(page);
        if self.slot(gap).is_none() {
            return;
        }
        self.count -= 1;
        let mask = self.slots.len() - 1;
        let mut at = self.next(gap);
        while let Some(put) = self.slot(at) {
            // What is behind its own place moves into the gap, unless that is before its place.
            let from_home = at.wrapping_sub(self.home(put.page)) & mask;
            let from_gap = at.wrapping_sub(gap) & mask;
            if from_home >= from_gap {
                if let Some(slot) = self.slots.get_mut(gap) {
                    *slot = Some(put);
                }
                gap = at;
            }
            at = self.next(at);
        }
        if let Some(slot) = self.slots.get_mut(gap) {
            *slot = None;
        }
    }
}
