// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Working through a queue: when to look again, and when to tell the driver.

use std::time::{Duration, Instant};

use super::queue::Step;

/// Longest that a driver hears late of a buffer while others are worked on: a
/// notification for each would cost more than a small request does.
const NOTIFY_WITHIN: Duration = Duration::from_micros(20);

/// A queue in the hands of whoever serves it.
pub trait Lane {
    /// Runs one request, or fills one event buffer.
    fn step(&mut self) -> Step;

    /// Tells the driver that it need not notify for now.
    fn quiet(&mut self);

    /// Asks the driver to notify again; `true` if there is work already.
    fn listen(&mut self) -> bool;

    /// Tells the driver that buffers were used.
    fn signal(&mut self);

    /// Whether to stop before the queue is empty.
    fn is_wanted(&mut self) -> bool;
}

/// Works through a queue until it is empty; `true` if it stopped before,
/// because the lane is wanted.
pub fn work(lane: &mut impl Lane) -> bool {
    lane.quiet();
    let mut unsaid: Option<Instant> = None;
    let wanted = loop {
        if lane.is_wanted() {
            break true;
        }
        match lane.step() {
            Step::Used { notify: true } => {
                unsaid.get_or_insert_with(Instant::now);
            }
            // Why a request was stopped is seen on top.
            Step::Used { notify: false } | Step::Skipped | Step::Stopped => {}
            Step::Idle if lane.listen() => lane.quiet(),
            Step::Idle => break false,
            Step::Broken => {
                lane.listen();
                break false;
            }
        }
        if unsaid.is_some_and(|since| since.elapsed() >= NOTIFY_WITHIN) {
            unsaid = None;
            lane.signal();
        }
    };
    if unsaid.is_some() {
        lane.signal();
    }
    wanted
}
