// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A swap-out of which the host refuses a page goes to the disk, and the host is told to free what it
//! took, whatever else it takes at that moment.

use crate::properties::SWAP;
use crate::world::run;
use crate::world::schedule::Act;
use crate::world::schedule::Step;

/// Two pages that the host takes half of, and one that it takes while the first answer is looked at,
/// before the lock that `coins` says.
fn schedule(coins: u16) -> Vec<Step> {
    let write = |at, count| Act::Write { at, count, how: 0 };
    let go = |which, how| Act::Go { which, how };
    let acts = [
        (write(0, 129), 0),
        (write(3, 0), 0),
        // Out of the plug, each behind the other.
        (go(0, 0), 0),
        (go(0, 0), 0),
        // To the device.
        (go(0, 0), 0),
        (go(1, 0), 0),
        // The host has no room for the first page.
        (go(0, 150), 0),
        (go(0, 0), 0),
        (go(1, 0), 0),
        // The answers.
        (go(0, 0), coins),
        (go(0, 0), 0),
    ];
    let step = |(act, coins)| Step { act, coins };
    acts.map(step).into()
}

#[test]
fn the_rest_of_a_refused_swap_out_is_flushed_whatever_is_taken_meanwhile() {
    for lock in 0..16 {
        let world = run(SWAP, schedule(1 << lock));
        let counts = world.map(|world| {
            let counts = &world.filter.area.counts;
            (counts.puts.get(), counts.refused.get())
        });
        assert_eq!(counts, Ok((2, 1)), "before lock {lock}");
    }
}
