// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which slots of a spill area are free.

use super::super::stub::Slot;
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use std::collections::BTreeSet;

/// Free slots.
#[derive(Debug)]
pub(super) struct Slots {
    total: u32,
    state: Mutex<State>,
    /// How many are free: for who only wants to know.
    free: AtomicU32,
}

#[derive(Debug)]
struct State {
    /// Those that were given back.
    back: Vec<Slot>,
    /// Those from here on were never used.
    fresh: u32,
}

impl Slots {
    /// Free slots that only who cleans may have: it needs one before others come back.
    pub(super) const RESERVE: u32 = 2;

    /// All slots of an area that has `total`, but its own first one and those in `used`.
    pub(super) fn new(total: u32, used: impl IntoIterator<Item = Slot>) -> Self {
        let used: BTreeSet<u32> = used.into_iter().map(Slot::number).collect();
        let fresh = used.last().map_or(1, |last| last.saturating_add(1));
        let unused = (1..fresh).filter(|number| !used.contains(number));
        let back: Vec<Slot> = unused.filter_map(Slot::new).collect();
        let free = total.saturating_sub(fresh) + u32::try_from(back.len()).unwrap_or(0);
        Self {
            total,
            state: Mutex::new(State { back, fresh }),
            free: AtomicU32::new(free),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many slots there are, and the area's own.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// How many slots are free.
    pub(super) fn free(&self) -> u32 {
        self.free.load(Relaxed)
    }

    /// A free slot; one of the last only for who `cleans`.
    pub(super) fn take(&self, cleans: bool) -> Option<Slot> {
        let mut state = self.state();
        if !cleans && self.free() <= Self::RESERVE {
            return None;
        }
        let slot = match state.back.pop() {
            Some(slot) => slot,
            None if state.fresh < self.total => {
                state.fresh += 1;
                Slot::new(state.fresh - 1)?
            }
            None => return None,
        };
        self.free.fetch_sub(1, Relaxed);
        Some(slot)
    }

    /// Gives a slot back.
    pub(super) fn give_back(&self, slot: Slot) {
        self.back(|back| back.push(slot));
    }

    /// Gives a slot back that could not be written: it is the last to be taken again.
    pub(super) fn give_back_bad(&self, slot: Slot) {
        self.back(|back| back.insert(0, slot));
    }

    fn back(&self, add: impl FnOnce(&mut Vec<Slot>)) {
        let mut state = self.state();
        // Without memory for the list the slot is lost until the next start.
        if state.back.try_reserve(1).is_ok() {
            add(&mut state.back);
            self.free.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(slots: &Slots) -> Vec<u32> {
        std::iter::from_fn(|| slots.take(true))
            .map(Slot::number)
            .collect()
    }

    #[test]
    fn each_slot_is_taken_once_and_the_first_never() {
        let slots = Slots::new(6, []);
        assert_eq!(slots.free(), 5);
        assert_eq!(take_all(&slots), [1, 2, 3, 4, 5]);
        assert_eq!(slots.free(), 0);
        slots.give_back(Slot::new(3).unwrap());
        assert_eq!(take_all(&slots), [3]);
    }

    #[test]
    fn those_in_use_stay_so() {
        let used = [4, 2].map(|number| Slot::new(number).unwrap());
        let slots = Slots::new(7, used);
        let mut free = take_all(&slots);
        free.sort_unstable();
        assert_eq!(free, [1, 3, 5, 6]);
    }

    #[test]
    fn a_bad_one_is_taken_last() {
        let slots = Slots::new(5, []);
        let all = take_all(&slots);
        assert_eq!(all, [1, 2, 3, 4]);
        for number in [1, 2, 3] {
            slots.give_back(Slot::new(number).unwrap());
        }
        slots.give_back_bad(Slot::new(4).unwrap());
        assert_eq!(take_all(&slots), [3, 2, 1, 4]);
    }

    #[test]
    fn the_last_are_for_who_cleans() {
        let slots = Slots::new(4, []);
        assert!(slots.take(false).is_some());
        assert_eq!(slots.take(false), None);
        assert!(slots.take(true).is_some());
    }
}
