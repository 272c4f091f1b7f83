// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Queues that are kicked by one eventfd. A front end may give the same for several: vhost-user
//! does not forbid it. Whoever takes a kick takes it from the others, and so has them look.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::same_file::is_same;
use crate::attendant::Kick;

/// Which queues of a connection have the same kick.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    events: Mutex<Events>,
    /// Some have, or had.
    is_any: AtomicBool,
}

#[derive(Debug, Default)]
struct Events {
    /// By queue: its kick, and a number that is the same for the same eventfd.
    kicks: Vec<Option<(Arc<Kick>, u64)>>,
    next: u64,
}

impl Sharing {
    /// The kick of `queue` is this now.
    pub(super) fn set(&self, queue: usize, kick: Option<Arc<Kick>>) {
        let mut events = self.lock();
        if events.kicks.len() <= queue {
            events.kicks.resize(queue.saturating_add(1), None);
        }
        let place = events.kicks.get_mut(queue);
        // Closed once the lock is free.
        let before = place.and_then(Option::take);
        let Some(kick) = kick else {
            drop(events);
            return;
        };
        let same = match &before {
            Some((known, number)) if Arc::ptr_eq(known, &kick) => Some(*number),
            _ => events.number_of(&kick).inspect(|_| {
                self.is_any.store(true, Ordering::Release);
            }),
        };
        let number = same.unwrap_or(events.next);
        events.next = events.next.max(number.saturating_add(1));
        if let Some(place) = events.kicks.get_mut(queue) {
            *place = Some((kick, number));
        }
        drop(events);
    }

    /// The other queues that have the kick of `queue`.
    pub(super) fn others(&self, queue: usize) -> Vec<usize> {
        if !self.is_any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let events = self.lock();
        let number = |kick: &Option<(_, u64)>| kick.as_ref().map(|(_, number)| *number);
        let Some(own) = events.kicks.get(queue).and_then(number) else {
            return Vec::new();
        };
        let all = events.kicks.iter().enumerate();
        all.filter(|(other, kick)| *other != queue && number(kick) == Some(own))
            .map(|(other, _)| other)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// The number of `kick`, if another queue has it. If the kernel does not tell, it has: to look
    /// in vain costs little.
    fn number_of(&self, kick: &Kick) -> Option<u64> {
        let mut known = self.kicks.iter().flatten();
        known
            .find(|(other, _)| is_same(kick, &**other).unwrap_or(true))
            .map(|(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    use rustix::event::{EventfdFlags, eventfd};

    fn event() -> OwnedFd {
        eventfd(0, EventfdFlags::CLOEXEC).unwrap()
    }

    fn kick(event: &OwnedFd) -> Option<Arc<Kick>> {
        Some(Arc::new(Kick::new(event.try_clone().unwrap()).unwrap()))
    }

    #[test]
    fn queues_share_what_is_one_eventfd_until_they_get_another() {
        let sharing = Sharing::default();
        let [one, other] = [event(), event()];
        let own = kick(&one);
        sharing.set(2, own.clone());
        sharing.set(0, kick(&other));
        assert!(sharing.others(2).is_empty() && sharing.others(7).is_empty());
        sharing.set(1, kick(&one));
        sharing.set(2, own);
        let others = || [0, 1, 2].map(|queue| sharing.others(queue));
        assert_eq!(others(), [vec![], vec![2], vec![1]]);
        sharing.set(0, kick(&one));
        assert_eq!(others(), [vec![1, 2], vec![0, 2], vec![0, 1]]);
        sharing.set(1, kick(&other));
        assert_eq!(others(), [vec![2], vec![], vec![0]]);
        sharing.set(2, None);
        assert!(others().iter().all(Vec::is_empty));
    }
}
