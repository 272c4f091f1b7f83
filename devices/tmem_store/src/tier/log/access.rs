// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Entries by their places: what they are in, and their payloads.

use super::super::entry::{EntryRef, Location, Pin, Victim};
use super::super::format::{HEADER, Place, State, Word};
use super::super::owner::Payload;
use super::super::segments::Arena;
use crate::sync::atomic::Ordering::Relaxed;

impl Arena {
    /// Where the header of an entry is.
    pub(super) fn place(&self, location: Location) -> Option<Place> {
        let segment = self.segment(location.segment())?;
        Some(Place {
            sequence: segment.sequence.load(Relaxed),
            offset: location.offset(),
        })
    }

    /// Makes a complete entry live.
    pub(crate) fn publish(&self, entry: EntryRef<'_>) {
        if self.mark_spilled(entry.location(), true) {
            return;
        }
        let (number, offset) = (entry.location().segment(), entry.location().offset());
        if let Some(word) = self.mapping.word(number, offset) {
            let word = word.load(Relaxed);
            if Word::decode(word).is_some_and(|word| word.state == State::Open) {
                let _ = self.mapping.store(number, offset, word ^ Word::PUBLISH);
                self.no_longer_open(number);
            }
        }
    }

    /// Marks an entry as dead; its holder is yet to free it.
    pub(crate) fn bury(&self, entry: EntryRef<'_>) {
        self.mark_dead(entry.location());
    }

    pub(super) fn mark_dead(&self, location: Location) {
        if self.mark_spilled(location, false) {
            return;
        }
        let (number, offset) = (location.segment(), location.offset());
        let word = self.mapping.word(number, offset);
        let word = word.and_then(|word| Word::decode(word.load(Relaxed)));
        if let (Some(word), Some(place)) = (word, self.place(location))
            && word.state != State::Dead
        {
            let dead = Word {
                state: State::Dead,
                ..word
            };
            let dead = dead.without_payload(place);
            let _ = self.mapping.store(number, offset, dead);
            if word.state == State::Open {
                self.no_longer_open(number);
            }
        }
    }

    fn no_longer_open(&self, number: u32) {
        if let Some(segment) = self.segment(number) {
            segment.no_longer_open();
        }
    }

    /// The payload of an entry at rest in memory; `None` if its codec is not known.
    pub(crate) fn payload<'a>(&'a self, entry: EntryRef<'a>) -> Option<Payload<'a>> {
        if self.is_spilled(entry.location()) {
            return None;
        }
        payload(entry.location(), self.mapping.bytes(entry))
    }

    /// The payload of an entry that is or was at rest; `None` if its codec is not known.
    pub(crate) fn pinned<'a>(&'a self, pin: &'a Pin) -> Option<Payload<'a>> {
        payload(pin.location(), self.mapping.pinned(pin))
    }

    /// The payload of a complete entry of a victim; `None` if its codec is not known.
    pub(crate) fn of_victim<'a>(
        &'a self,
        victim: &'a Victim,
        location: Location,
    ) -> Option<Payload<'a>> {
        let bytes = match victim.blocks() {
            None => self.mapping.of_victim(victim, location),
            Some(blocks) => {
                let start = location.offset() + HEADER;
                blocks.get(start..start + location.len())?
            }
        };
        payload(location, bytes)
    }
}

fn payload(location: Location, bytes: &[u8]) -> Option<Payload<'_>> {
    let codec = location.codec()?;
    Some(Payload { codec, bytes })
}
