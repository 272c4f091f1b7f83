// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How long a task looks for an answer.

use crate::driver::round_trip::RoundTrip;
use proptest::collection::vec;
use proptest::prelude::*;

/// The longest look.
const MOST: u64 = 50_000;

fn after(times: impl IntoIterator<Item = u64>) -> u64 {
    let mut round_trip = RoundTrip::default();
    for time in times {
        round_trip.learn(time, MOST);
    }
    round_trip.patience(MOST)
}

#[test]
fn nobody_looks_for_long_before_the_first_answer() {
    assert_eq!(after([]), 0);
}

#[test]
fn answers_that_come_soon_are_looked_for() {
    // RFC 6298, 2.2: the first time, and 4 times half of it.
    assert_eq!(after([10_000]), 30_000);
    // Those that take the same time every time are not looked for much longer than that.
    let steady = after([10_000; 100]);
    assert!((10_000..10_100).contains(&steady), "{steady}");
}

#[test]
fn answers_that_come_late_are_not_looked_for() {
    assert_eq!(after([MOST + 8; 20]), 0);
    assert_eq!(after([u64::MAX; 20]), 0);
}

#[test]
fn one_late_answer_is_forgotten_soon() {
    let times = [10_000; 100].into_iter().chain([u64::MAX]);
    let then = |more| after(times.clone().chain([10_000].repeat(more)));
    assert!(then(0) > 0);
    assert!((10_000..20_000).contains(&then(30)), "{}", then(30));
}

proptest! {
    #[test]
    fn it_is_bounded(times in vec(any::<u64>(), 0..50)) {
        prop_assert!(after(times) <= MOST);
    }
}
