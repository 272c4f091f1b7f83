// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A read that takes longer than a write and another read of the same page: what it brought must not
//! take the place of what the other one put. Chance takes too long to come upon this.

use crate::properties::CACHE;
use crate::world::run;
use crate::world::schedule::Act;
use crate::world::schedule::Step;
use crate::world::Fault;
use crate::world::Scene;

fn schedule() -> Vec<Step> {
    let (at, count, how) = (0, 0, 0);
    let read = Act::Read { at, count, how };
    let acts = [
        read.clone(),
        // It has the old content, but does not end yet.
        Act::Go { which: 0, how },
        Act::Write { at, count, how },
        Act::Finish { which: 1 },
        read.clone(),
        Act::Finish { which: 1 },
        // The worker, and the put of what the second read brought.
        Act::Finish { which: 1 },
        Act::Finish { which: 1 },
        Act::Finish { which: 0 },
        // Its put, if there is one, and the worker before.
        Act::Go { which: 0, how },
        Act::Go { which: 0, how },
        Act::Go { which: 0, how },
        read,
        Act::FinishAll,
    ];
    acts.map(|act| Step { act, coins: 0 }).into()
}

#[test]
fn a_slow_read_does_not_take_the_place_of_what_a_later_one_put() {
    let counts = run(CACHE, schedule()).map(|world| {
        let counts = &world.filter.area.counts;
        (counts.puts.get() > 0, counts.hits.get() > 0)
    });
    assert_eq!(counts, Ok((true, true)));
}

#[test]
fn it_does_when_nobody_looks_whether_a_write_came_in_between() {
    let fault = Some(Fault::NoCheck);
    assert!(run(Scene { fault, ..CACHE }, schedule()).is_err());
}
