// SPDX-License-Identifier: GPL-2.0

//! Looking for answers before sleeping. Somebody waits for a read; it is often answered sooner than
//! an interrupt would come and a task would wake up.
//!
//! While anyone looks, the device is asked not to interrupt for this queue: whoever looks takes all
//! that it has used, for everybody. For how long is learnt: see [`RoundTrip`].
//!
//! [`RoundTrip`]: super::super::round_trip::RoundTrip

use super::{
    super::{
        request::Stack,
        round_trip::RoundTrip, //
    },
    Inner,
    Queue, //
};
use kernel::time::{
    Instant,
    Monotonic, //
};

/// Requests that somebody waits for. Interrupts are off for them until [`Queue::stop_looking`].
pub(crate) struct Awaited {
    /// The requests that the queue will have answered then.
    answered: u64,
    since: Instant<Monotonic>,
    /// In nanoseconds; 0 for one look.
    patience: u64,
}

/// What the queue knows of those who wait.
#[derive(Default)]
pub(super) struct Watch {
    lookers: u32,
    /// Requests for I/O sent so far.
    sent: u64,
    /// And those of them that are answered.
    answered: u64,
    round_trip: RoundTrip,
    /// How long anybody looks at most, in nanoseconds.
    most: u64,
    /// What nobody looks for any more, and is not answered: how many answers that takes, and since
    /// when.
    overdue: Option<(u64, Instant<Monotonic>)>,
}

/// What a look has shown.
pub(crate) struct Look {
    /// What the device has used.
    pub(crate) used: Stack,
    /// All that is awaited is answered.
    pub(crate) is_answered: bool,
    /// There is no use in looking once more.
    pub(crate) is_over: bool,
}

impl Watch {
    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    /// Requests came back.
    pub(super) fn answered(&mut self, more: u64) {
        self.answered += more;
        if let Some((_, since)) = self.overdue.take_if(|due| due.0 <= self.answered) {
            self.learn(since);
        }
    }

    /// Whether anybody looks.
    pub(super) fn is_on(&self) -> bool {
        self.lookers > 0
    }

    /// Nothing that was sent is under way any more.
    pub(super) fn forget(&mut self) {
        self.answered = self.sent;
        self.overdue = None;
    }

    fn learn(&mut self, since: Instant<Monotonic>) {
        let time = since.elapsed().as_nanos();
        self.round_trip
            .learn(time.try_into().unwrap_or(0), self.most);
    }
}

impl Inner {
    /// Somebody will look for all that was sent so far, at most `most` nanoseconds.
    pub(super) fn start_looking(&mut self, most: u64) -> Option<Awaited> {
        let vq = self.vq.as_mut()?;
        if self.watch.lookers == 0 {
            vq.disable_interrupts();
        }
        self.watch.lookers += 1;
        self.watch.most = most;
        Some(Awaited {
            answered: self.watch.sent,
            since: Instant::now(),
            patience: self.watch.round_trip.patience(most),
        })
    }

    /// Takes what the device has used.
    pub(super) fn drain_into(&mut self, used: &mut Stack) {
        let mut count = 0;
        if let Some(vq) = self.vq.as_mut() {
            while let Some((request, _)) = vq.take_used() {
                count += u64::from(request.is_io());
                used.push(request);
            }
        }
        self.watch.answered(count);
    }
}

impl Queue {
    /// Looks for answers.
    pub(crate) fn look(&self, awaited: &Awaited) -> Look {
        let mut inner = self.inner.lock();
        let mut used = Stack::new();
        inner.drain_into(&mut used);
        let is_answered = inner.watch.answered >= awaited.answered;
        let is_over = is_answered
            || inner.vq.is_none()
            || awaited.since.elapsed().as_nanos() >= i64::try_from(awaited.patience).unwrap_or(0);
        Look {
            used,
            is_answered,
            is_over,
        }
    }

    /// Nobody looks any more for these. Gives what the device has used meanwhile.
    pub(crate) fn stop_looking(&self, awaited: Awaited) -> Stack {
        let mut inner = self.inner.lock();
        let watch = &mut inner.watch;
        watch.lookers = watch.lookers.saturating_sub(1);
        if watch.answered >= awaited.answered {
            watch.learn(awaited.since);
        } else if watch.overdue.is_none() {
            watch.overdue = Some((awaited.answered, awaited.since));
        }
        inner.take_used()
    }
}
