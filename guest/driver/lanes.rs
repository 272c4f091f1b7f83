// SPDX-License-Identifier: GPL-2.0

//! Which queue carries what: reads have queues of their own.
//!
//! A device works through a queue in order, and somebody waits for a read. Behind a queue of writes,
//! each with many pages, it would wait for all of them. What else there is goes with the writes.

/// Request queues that are of use to so many CPUs.
pub(crate) const fn wanted(cpus: usize) -> usize {
    2 * cpus
}

/// The one of `count` queues for reads, or for all else, that a CPU begins: the last half of them
/// is for reads.
pub(crate) fn lane(is_read: bool, cpu: usize, count: usize) -> usize {
    let reads = count / 2;
    let others = count - reads;
    if is_read && reads > 0 {
        others + cpu % reads
    } else {
        cpu % others.max(1)
    }
}
