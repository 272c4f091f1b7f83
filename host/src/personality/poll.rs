// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Looking at a ring for a while before its thread sleeps: the next request of a driver that
//! waits for the last one comes sooner than a thread wakes up.
//!
//! Who waits for a read asks for the next one when it goes on, and that may be a while after the answer. What
//! was written nobody waits for: more comes at once or much later. So requests that are not awaited
//! have a part of the time.
//!
//! For how long is learnt, as KVM's halt polling does (`Documentation/virt/kvm/halt-polling.rst`
//! in Linux): the window grows when the thread slept for less than the most that it may be, and
//! is closed when it slept longer.

use std::time::{Duration, Instant};

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

use super::Lane;

/// The window that is opened first.
const FIRST: Duration = Duration::from_micros(8);

/// The part of the most for requests that nobody waits for.
const UNAWAITED: u32 = 4;

/// Looks at the ring before the CPU is offered to others.
const LOOKS: u32 = 64;

/// For how long the ring of one queue is looked at before its thread sleeps.
#[derive(Debug)]
pub struct Poller {
    /// For requests that somebody waits for.
    most: Duration,
    window: Window,
    /// Since when there is nothing to do.
    idle_since: Option<Instant>,
}

#[derive(Debug)]
struct Window {
    now: Duration,
    most: Duration,
}

impl Window {
    /// There was nothing to do for so long.
    fn learn(&mut self, idle: Duration) {
        self.now = match idle > self.most {
            true => Duration::ZERO,
            false => (2 * self.now).clamp(FIRST.min(self.most), self.most),
        };
    }
}

impl Poller {
    /// One that looks for `most` at most, and for less where nobody waits; zero: never.
    pub fn new(most: Duration) -> Self {
        let now = Duration::ZERO;
        Self {
            most,
            window: Window { now, most },
            idle_since: None,
        }
    }

    /// One that does not look.
    pub fn never() -> Self {
        Self::new(Duration::ZERO)
    }

    /// One that looks for `most` from the beginning.
    #[cfg(test)]
    pub(super) fn open(most: Duration) -> Self {
        let window = Window { now: most, most };
        Self {
            most: most * UNAWAITED,
            window,
            idle_since: None,
        }
    }

    /// The longest that it looks now.
    #[cfg(test)]
    pub(super) fn most(&self) -> Duration {
        self.window.most
    }

    /// There may be something to do: somebody has said so.
    pub(super) fn woken(&mut self) {
        if let Some(since) = self.idle_since.take() {
            self.window.learn(since.elapsed());
        }
    }

    /// Looks at the ring of `lane`, which has nothing to do; whether it has now. Somebody may have
    /// waited for the last request.
    pub(super) fn finds(&mut self, lane: &mut impl Lane, was_awaited: bool) -> bool {
        self.window.most = match was_awaited {
            true => self.most,
            false => self.most / UNAWAITED,
        };
        self.window.now = self.window.now.min(self.window.most);
        if self.most.is_zero() {
            return false;
        }
        let begin = Instant::now();
        self.idle_since = Some(begin);
        while begin.elapsed() < self.window.now {
            for _ in 0..LOOKS {
                // What cannot be read is seen by who works on it.
                if lane.is_wanted() || lane.with(|memory, queue, _| has_more(memory, queue)) {
                    self.idle_since = None;
                    return true;
                }
                std::hint::spin_loop();
            }
            // Nobody waits for a CPU because of this.
            std::thread::yield_now();
        }
        false
    }
}

/// Whether the driver has made buffers available that were not taken.
fn has_more(memory: &GuestMemoryMmap, queue: &Queue) -> bool {
    let available = queue.avail_idx(memory, std::sync::atomic::Ordering::Acquire);
    available.is_ok_and(|index| index.0 != queue.next_avail())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_with_requests_that_come_soon_and_is_closed_by_one_that_does_not() {
        let micros = Duration::from_micros;
        let mut window = Window {
            now: Duration::ZERO,
            most: micros(50),
        };
        let mut learn = |idle| {
            window.learn(micros(idle));
            window.now.as_micros()
        };
        let soon = [1, 50, 20, 20, 20].map(&mut learn);
        assert_eq!(soon, [8, 16, 32, 50, 50]);
        assert_eq!([51, 51, 20].map(&mut learn), [0, 0, 8]);
        // The most may be less than is looked for first.
        let most = micros(3);
        let mut window = Window { now: most, most };
        window.learn(micros(2));
        assert_eq!(window.now, most);
    }
}
