// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Working through a queue: when to look again, and when to tell the driver.

use std::time::{Duration, Instant};

use virtio_queue::{Queue, QueueT};
use virtio_serve::{GoOn, Step};
use vm_memory::GuestMemoryMmap;

use super::{Handler, Poller};

/// Longest that a driver hears late of a buffer while others are worked on: a
/// notification for each would cost more than a small request does.
const NOTIFY_WITHIN: Duration = Duration::from_micros(20);

/// A queue in the hands of whoever serves it: the door's side.
pub trait Lane {
    /// Calls `with` with the guest's memory, the queue, and whether a request that takes
    /// long may go on.
    fn with<R>(&mut self, with: impl FnOnce(&GuestMemoryMmap, &mut Queue, GoOn<'_>) -> R) -> R;

    /// A request is about to be served, if there is one.
    fn begin(&mut self) {}

    /// Has `handler` run a request; [`Step::Stopped`] if it may not be.
    fn step(&mut self, handler: &mut dyn Handler) -> Step {
        self.with(|memory, queue, go_on| handler.step(memory, queue, go_on))
    }

    /// Tells the driver that buffers were used.
    fn signal(&mut self);

    /// Whether to stop before the queue is empty.
    fn is_wanted(&mut self) -> bool;
}

/// Has `handler` work through a queue until it is empty, and `poller` has found nothing more;
/// `true` if it stopped before, because the lane is wanted.
pub fn serve(handler: &mut dyn Handler, lane: &mut impl Lane, poller: &mut Poller) -> bool {
    poller.woken();
    quiet(lane);
    let mut unsaid: Option<Instant> = None;
    let mut began = Instant::now();
    let wanted = loop {
        if lane.is_wanted() {
            break true;
        }
        lane.begin();
        let step = lane.step(handler);
        // The clock is read once for each step: to read it may cost more than to count.
        let now = Instant::now();
        match step {
            Step::Used { notify } => {
                // What it costs is measured beside a build without.
                if !cfg!(feature = "untimed") {
                    handler.took(now.saturating_duration_since(began));
                }
                if notify {
                    unsaid.get_or_insert(now);
                }
            }
            // Why a request was stopped is seen on top.
            Step::Skipped | Step::Stopped => {}
            Step::Idle => {
                if unsaid.take().is_some() {
                    lane.signal();
                }
                let has_work = handler.has_work();
                if !(has_work && poller.finds(lane, handler.is_awaited())) {
                    if !(listen(lane) && has_work) {
                        break false;
                    }
                    quiet(lane);
                }
                began = Instant::now();
                continue;
            }
            Step::Broken => {
                listen(lane);
                break false;
            }
        }
        began = now;
        let is_late = |since| now.saturating_duration_since(since) >= NOTIFY_WITHIN;
        if unsaid.is_some_and(is_late) {
            unsaid = None;
            lane.signal();
            // The next request does not pay for that.
            began = Instant::now();
        }
    };
    if unsaid.is_some() {
        lane.signal();
    }
    wanted
}

/// Tells the driver that it need not notify for now.
fn quiet(lane: &mut impl Lane) {
    // A driver whose rings are not in memory gets needless notifications at worst.
    let _ = lane.with(|memory, queue, _| queue.disable_notification(memory));
}

/// Asks the driver to notify again; `true` if buffers are available already.
fn listen(lane: &mut impl Lane) -> bool {
    let more = lane.with(|memory, queue, _| queue.enable_notification(memory));
    more.unwrap_or(false)
}
