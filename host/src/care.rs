// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is to be done every so often where virtual machines are served, by a thread that serves
//! nobody: see what guests have given back, tell their drivers when they may try again, and make
//! room when the host's memory is short.

use std::time::Duration;

use crate::health::Health;
use crate::pressure::Pressure;
use crate::registry::Registry;

/// How often.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// What was seen so far.
#[derive(Debug)]
pub struct Care {
    pressure: Pressure,
}

impl Care {
    /// On this host. Opens files, which [`Self::look`] does not.
    pub fn of_host() -> Self {
        Self {
            pressure: Pressure::of_host(),
        }
    }

    /// Does it once.
    pub fn look(&mut self, registry: &Registry, health: &Health) {
        health.evicted(self.pressure.look(registry));
        for entry in registry.list() {
            entry.machine().look_after();
        }
    }
}
