// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The configuration space that the driver sees, which does not change between
//! two resets although daemons come and go (`dev-config-constant`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_tmem::wire::Config;

/// See the module.
#[derive(Debug)]
pub(super) struct Shown(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The last daemon's, or the placeholder.
    newest: Config,
    /// What the driver has seen since it last reset the device.
    seen: Option<Config>,
}

impl Shown {
    pub(super) fn new(placeholder: Config) -> Self {
        Self(Mutex::new(State {
            newest: placeholder,
            seen: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A daemon has come.
    pub(super) fn learn(&self, config: Config) {
        self.lock().newest = config;
    }

    /// The driver looks.
    pub(super) fn look(&self) -> Config {
        let mut state = self.lock();
        let newest = state.newest;
        *state.seen.get_or_insert(newest)
    }

    /// The driver has reset the device.
    pub(super) fn reset(&self) {
        self.lock().seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::vhost_user::offer::placeholder;

    #[test]
    fn what_was_seen_stays_until_a_reset() {
        let of = |instance| Config {
            instance: [instance; 16],
            ..placeholder(2)
        };
        let shown = Shown::new(of(0));
        shown.learn(of(1));
        assert_eq!(shown.look(), of(1), "nobody had looked before");
        shown.learn(of(2));
        assert_eq!(shown.look(), of(1));
        shown.reset();
        shown.learn(of(3));
        assert_eq!(shown.look(), of(3));
    }
}
