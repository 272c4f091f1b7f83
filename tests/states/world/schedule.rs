// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Schedules: what happens when.

use super::Scene;
use super::World;
use proptest::collection::vec;
use proptest::prelude::*;
use std::fmt;

#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) act: Act,
    /// Before which locks that this takes the next steps are done.
    pub(crate) coins: u16,
}

impl fmt::Debug for Step {
    /// On one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { act, coins } = self;
        f.write_str(&format!("{act:?}, {coins:#b}"))
    }
}

/// `at` picks pages, `which` a task; `how` whether things go well.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A task gets on.
    Go {
        which: u8,
        how: u8,
    },
    /// A task gets to its end; all is well.
    Finish {
        which: u8,
    },
    /// All tasks do.
    FinishAll,
    Read {
        at: u8,
        count: u8,
        how: u8,
    },
    Write {
        at: u8,
        count: u8,
        how: u8,
    },
    Discard {
        at: u8,
        count: u8,
    },
    /// Slots are freed.
    Free {
        at: u8,
        count: u8,
    },
    /// The host drops a page.
    Evict {
        at: u8,
    },
    /// The guest's kernel evicts a page of what it has read; `how` says what has become of that.
    Reclaim {
        which: u8,
        at: u8,
        how: u8,
    },
    /// The host says that it is full.
    Full(bool),
    /// The backlog is long.
    Busy(bool),
    /// There is no memory for bios.
    Short(bool),
    /// The device goes; `executed` says what it has done of what it has not answered.
    Away {
        executed: u16,
    },
    /// Nobody waits for it any more.
    Timeout,
    /// Those who swap out do not.
    Postpone,
    /// It comes back.
    Back {
        is_lost: bool,
    },
    /// The disk is exchanged, or was written to while nobody used it here.
    Exchange {
        at: u8,
        is_seen: bool,
    },
    /// All is written back.
    Drain,
    /// Somebody wants the one who drains to stop.
    Signal,
}

fn rarely() -> impl Strategy<Value = bool> {
    prop_oneof![4 => Just(false), 1 => Just(true)]
}

fn act(scene: Scene) -> impl Strategy<Value = Act> {
    let place = || (any::<u8>(), any::<u8>());
    let common = prop_oneof![
        24 => (any::<u8>(), any::<u8>()).prop_map(|(which, how)| Act::Go { which, how }),
        16 => any::<u8>().prop_map(|which| Act::Finish { which }),
        4 => Just(Act::FinishAll),
        10 => (place(), any::<u8>()).prop_map(|((at, count), how)| Act::Read { at, count, how }),
        // The first ends the use of a share.
        if scene.is_shared { 1 } else { 5 } => (place(), any::<u8>()).prop_map(|((at, count), how)| Act::Write { at, count, how }),
        1 => place().prop_map(|(at, count)| Act::Discard { at, count }),
        1 => rarely().prop_map(Act::Busy),
        1 => rarely().prop_map(Act::Short),
        1 => any::<u16>().prop_map(|executed| Act::Away { executed }),
        3 => rarely().prop_map(|is_lost| Act::Back { is_lost }),
    ];
    if scene.is_swap {
        prop_oneof![
            16 => common,
            3 => place().prop_map(|(at, count)| Act::Free { at, count }),
            1 => Just(Act::Drain),
            1 => prop_oneof![12 => Just(false), 1 => Just(true)].prop_map(Act::Full),
            1 => prop_oneof![3 => Just(Act::Timeout), 1 => Just(Act::Postpone), 1 => Just(Act::Signal)],
        ]
        .boxed()
    } else {
        prop_oneof![
            24 => common,
            1 => any::<u8>().prop_map(|at| Act::Evict { at }),
            if scene.is_victim { 8 } else { 1 } => (any::<u8>(), any::<u8>(), any::<u8>())
                .prop_map(|(which, at, how)| Act::Reclaim { which, at, how }),
            1 => (any::<u8>(), any::<bool>()).prop_map(|(at, is_seen)| Act::Exchange { at, is_seen }),
        ]
        .boxed()
    }
}

/// Schedules of up to `most` steps.
pub(crate) fn schedules(scene: Scene, most: usize) -> impl Strategy<Value = Vec<Step>> {
    let coins = prop_oneof![3 => Just(0), 1 => any::<u16>()];
    vec(
        (act(scene), coins).prop_map(|(act, coins)| Step { act, coins }),
        1..most,
    )
}

impl World {
    pub(super) fn act(&self, act: Act) {
        match act {
            Act::Go { which, how } => {
                self.go(which.into(), how);
            }
            Act::Finish { which } => self.go_on(which.into()),
            Act::FinishAll => self.go_on_all(),
            Act::Read { at, count, how } => self.read(at, count, how),
            Act::Write { at, count, how } => self.write(at, count, how),
            Act::Discard { at, count } => self.discard(at, count),
            Act::Free { at, count } => self.free(at, count),
            Act::Evict { at } => self.evict(at),
            Act::Reclaim { which, at, how } => self.reclaim(which, at, how),
            Act::Full(is_full) => self.filter.engine.is_full.set(is_full),
            Act::Busy(is_busy) => self.filter.engine.is_busy.set(is_busy),
            Act::Short(is_short) => self.is_short.set(is_short),
            Act::Away { executed } => self.away(executed),
            Act::Timeout => self.timeout(),
            Act::Postpone => self.postpone(),
            Act::Back { is_lost } => self.back(is_lost),
            Act::Exchange { at, is_seen } => self.exchange(at, is_seen),
            Act::Drain => self.drain(),
            Act::Signal => self.has_signal.set(true),
        }
    }
}
