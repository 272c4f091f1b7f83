// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reads have queues of their own, wherever there are two.

use crate::driver::lanes::{lane, wanted};
use std::collections::BTreeSet;

#[test]
fn no_queue_carries_both_and_each_carries_something() {
    for cpus in 1..=64usize {
        for count in 2..=wanted(cpus).min(16) {
            let queues = |is_read| -> BTreeSet<_> {
                (0..cpus).map(|cpu| lane(is_read, cpu, count)).collect()
            };
            let (reads, others) = (queues(true), queues(false));
            assert!(reads.is_disjoint(&others), "{cpus} CPUs, {count} queues");
            assert!(reads.union(&others).copied().eq(0..count));
        }
    }
}

#[test]
fn one_queue_carries_all() {
    for cpu in 0..64 {
        assert_eq!((lane(true, cpu, 1), lane(false, cpu, 1)), (0, 0));
    }
}
