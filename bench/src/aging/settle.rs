// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Waiting until the store has done what it defers.

use crate::aging::state::State;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// How long a store is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The longest wait: what is held by then counts.
    pub(super) deadline: Duration,
    /// Nothing has changed for so long: the store has come to rest.
    pub(super) rest: Duration,
}

impl Patience {
    /// For what a store does soon.
    pub(super) const SOON: Self = Self {
        deadline: Duration::from_secs(5),
        rest: Duration::from_secs(1),
    };

    /// For what it does when it has nothing else to do, behind all others.
    pub(super) const IDLE: Self = Self {
        deadline: Duration::from_secs(30),
        rest: Duration::from_secs(3),
    };
}

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(20);

/// One page in so many may still be deferred by a store at rest: it need not wake up
/// for a few.
const FEW: u64 = 100;

/// What is held once the store is at rest, or at the deadline.
pub(super) fn settle(patience: Patience, look: impl Fn() -> State) -> (State, Duration) {
    let begin = Instant::now();
    let mut state = look();
    let mut since = begin;
    loop {
        let now = Instant::now();
        let few = state.deferred_pages * FEW <= state.pages;
        if now - begin >= patience.deadline || (few && now - since >= patience.rest) {
            return (state, now - begin);
        }
        thread::sleep(PERIOD);
        let next = look();
        if next.activity() != state.activity() {
            since = Instant::now();
        }
        state = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn state(held_bytes: u64, deferred_pages: u64) -> State {
        State {
            pages: 1000,
            held_bytes,
            mapped_bytes: 0,
            deferred_pages,
            moved_bytes: None,
            background_cpu: None,
        }
    }

    #[test]
    fn a_store_at_rest_is_not_waited_for_until_the_deadline() {
        let (state, time) = settle(Patience::SOON, || state(1, 10));
        assert_eq!(state.held_bytes, 1);
        assert!(
            time >= Patience::SOON.rest && time < Patience::SOON.deadline,
            "{time:?}"
        );
    }

    #[test]
    fn what_is_held_counts_once_it_no_longer_changes() {
        let looks = Cell::new(100);
        let (state, _) = settle(Patience::SOON, || {
            looks.set(looks.get() - 1_u64.min(looks.get()));
            state(1000 + looks.get(), 0)
        });
        assert_eq!(state.held_bytes, 1000);
    }

    #[test]
    fn a_store_that_defers_many_pages_is_waited_for_until_the_deadline() {
        let (_, time) = settle(Patience::SOON, || state(1, 11));
        assert!(time >= Patience::SOON.deadline);
    }
}
