// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the driver sees of the device, which stays between two resets although daemons come and
//! go, but for what the driver is told of and what it writes itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::offer::Offer;

/// See the module.
#[derive(Debug)]
pub(super) struct Shown(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The last daemon's, or the placeholder.
    newest: Offer,
    /// What the driver has seen since it last reset the device.
    seen: Option<Offer>,
    /// The driver has written to it, and nobody has looked since.
    is_written: bool,
}

impl State {
    fn look(&mut self) -> &mut Offer {
        self.seen.get_or_insert_with(|| self.newest.clone())
    }

    /// Puts `bytes` at `offset`, as far as there is room.
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let room = self.look().space.iter_mut().skip(offset);
        for (to, from) in room.zip(bytes) {
            *to = *from;
        }
    }
}

impl Shown {
    pub(super) fn new(placeholder: Offer) -> Self {
        Self(Mutex::new(State {
            newest: placeholder,
            seen: None,
            is_written: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A daemon has come.
    pub(super) fn learn(&self, offer: Offer) {
        self.lock().newest = offer;
    }

    /// The driver looks.
    pub(super) fn look(&self) -> Offer {
        self.lock().look().clone()
    }

    /// The beginning of the configuration space changes while a driver is there; `tell` tells it.
    /// A driver that reads meanwhile has read before or after both.
    pub(super) fn change(&self, bytes: &[u8], tell: impl FnOnce()) {
        let mut state = self.lock();
        state.put(0, bytes);
        tell();
    }

    /// The driver writes to the configuration space.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        let mut state = self.lock();
        state.put(offset, bytes);
        state.is_written = true;
    }

    /// Whether the driver has written since this was last asked.
    pub(super) fn take_written(&self) -> bool {
        std::mem::take(&mut self.lock().is_written)
    }

    /// The driver has reset the device.
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        state.seen = None;
        state.is_written = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(byte: u8) -> Offer {
        Offer {
            features: byte.into(),
            space: vec![byte; 4],
            queues: 1,
        }
    }

    #[test]
    fn what_was_seen_stays_until_a_reset() {
        let shown = Shown::new(of(0));
        shown.learn(of(1));
        assert_eq!(shown.look(), of(1), "nobody had looked before");
        shown.learn(of(2));
        assert_eq!(shown.look(), of(1));
        shown.reset();
        shown.learn(of(3));
        assert_eq!(shown.look(), of(3));
    }

    #[test]
    fn changes_are_seen_and_end_with_a_reset() {
        let shown = Shown::new(of(1));
        let mut is_told = false;
        shown.change(&[7], || is_told = true);
        assert!(is_told);
        shown.write(3, &[8, 8]);
        assert_eq!(shown.look().space, [7, 1, 1, 8], "nothing beyond the end");
        assert!(shown.take_written() && !shown.take_written());
        shown.write(9, &[8]);
        shown.reset();
        assert_eq!(shown.look(), of(1));
        assert!(!shown.take_written());
    }
}
