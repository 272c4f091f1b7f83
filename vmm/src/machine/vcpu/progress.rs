// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Notices a guest that cannot go on, because the host has no page for memory that
//! it touches.
//!
//! KVM does not tell. It looks for the page in the background, and has the vCPU try
//! again, for ever ("asynchronous page faults"); only where the guest has
//! interrupts off does it say EFAULT. But it counts: such faults are taken all the time,
//! and none is resolved.

use std::io;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::faults::{Count, Faults};
use crate::confine::Role;
use crate::machine::Event;
use crate::recurring::Recurring;

/// How often the counters are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Faults in an interval below which nothing is wrong: a vCPU that tries again and
/// again takes thousands.
const LEAST: u64 = 20;

/// One of so many is resolved at most, when a vCPU stands still. Memory that the host
/// has to read from a disk first is taken twice or so for each time that it is resolved.
const FEW: u64 = 10;

/// Intervals in a row after which the guest will not go on by itself.
const PATIENCE: u32 = 10;

/// What is said then.
const SENTENCE: &str = "the guest stands still: it touches memory for which the host has no page. \
                        Huge pages that it gave back are in use elsewhere; raise \
                        vm.nr_hugepages, or leave out give-back=any";

/// A thread that looks at the counters, until it is dropped.
#[derive(Debug)]
pub(super) struct Progress(#[expect(dead_code, reason = "ends the thread")] Recurring);

impl Progress {
    /// Watches the vCPUs with these counters.
    pub(super) fn watch(faults: Vec<Faults>, events: Sender<Event>) -> io::Result<Self> {
        let thread = Recurring::start("progress", Role::Watch, move |end| {
            let mut judge = Judge::default();
            while !end.comes_within(INTERVAL) {
                // Counters that cannot be read say nothing.
                let Ok(now) = sum(&faults) else {
                    return;
                };
                if judge.stands_still(now) {
                    // Nobody listens once the machine is at its end.
                    let _ = events.send(Event::Crash(SENTENCE.into()));
                    return;
                }
            }
        })?;
        Ok(Self(thread))
    }
}

fn sum(faults: &[Faults]) -> io::Result<Count> {
    let mut sum = Count::default();
    for vcpu in faults {
        let count = vcpu.count()?;
        sum.taken = sum.taken.saturating_add(count.taken);
        sum.resolved = sum.resolved.saturating_add(count.resolved);
    }
    Ok(sum)
}

/// Judges the counters of intervals.
#[derive(Debug, Default)]
struct Judge {
    before: Count,
    /// Intervals without progress.
    idle: u32,
}

impl Judge {
    /// The counters are these, an interval later.
    fn stands_still(&mut self, now: Count) -> bool {
        let taken = now.taken.saturating_sub(self.before.taken);
        let resolved = now.resolved.saturating_sub(self.before.resolved);
        self.before = now;
        if taken >= LEAST && resolved.saturating_mul(FEW) <= taken {
            self.idle += 1;
        } else {
            self.idle = 0;
        }
        self.idle >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a guest stands still after intervals with so many faults taken and
    /// resolved.
    fn judged(intervals: impl IntoIterator<Item = (u64, u64)>) -> bool {
        let mut judge = Judge::default();
        let mut now = Count::default();
        intervals.into_iter().any(|(taken, resolved)| {
            now.taken += taken;
            now.resolved += resolved;
            judge.stands_still(now)
        })
    }

    #[test]
    fn a_guest_that_takes_the_same_fault_for_ever_stands_still() {
        assert!(judged([(5000, 0); 10]));
        // Another vCPU does something yet.
        assert!(judged([(5000, 400); 10]));
    }

    #[test]
    fn a_guest_that_goes_on_does_not() {
        // Starting, idle, or paused.
        assert!(!judged([(5000, 5000); 100]));
        assert!(!judged([(0, 0); 100]));
        assert!(!judged([(3, 0); 100]));
        // Its memory comes from a disk.
        assert!(!judged([(300, 100); 100]));
        // For a while only.
        let hiccups = [[(5000, 0); 9].as_slice(), &[(5000, 5000)]].concat();
        assert!(!judged(hiccups.repeat(10)));
    }
}
