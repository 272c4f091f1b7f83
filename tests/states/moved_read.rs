// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A swap-in of two pages, one of which was written back meanwhile, starts again. The other one, which
//! it had, may be lost until then. Chance takes too long to come upon this.

use crate::properties::SWAP;
use crate::world::run;
use crate::world::schedule::Act;
use crate::world::schedule::Step;

fn schedule() -> Vec<Step> {
    let go = |which| Act::Go { which, how: 0 };
    let finish = |which| Act::Finish { which };
    let how = 0;
    let acts = [
        // Five pages: more than are written back at once.
        Act::Write {
            at: 0,
            count: 132,
            how,
        },
        Act::FinishAll,
        Act::Read {
            at: 3,
            count: 129,
            how,
        },
        // The host has the request for both, but does nothing yet.
        go(0),
        go(0),
        Act::Drain,
        // No signal so far.
        Act::Busy(false),
        // The first four pages are read, and written to the disk.
        finish(1),
        finish(1),
        // The fifth stays where it is.
        Act::Signal,
        // The host frees the first four.
        finish(1),
        finish(1),
        // It has only one of the two that are read.
        finish(0),
        // They are read again. One comes from the disk,
        go(0),
        finish(0),
        // what is left of the bio is asked for,
        go(0),
        go(0),
        go(0),
        // and lost.
        Act::Away { executed: 0 },
        Act::Back { is_lost: true },
        Act::FinishAll,
    ];
    let step = |act| Step { act, coins: 0 };
    acts.map(step).into()
}

#[test]
fn a_page_that_is_read_again_is_not_taken_for_what_it_was() {
    let lost = run(SWAP, schedule()).map(|world| world.seen.lost.get() > 0);
    assert_eq!(lost, Ok(true));
}
