// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is to be done for an in-process store every so often, as the daemon does it: see
//! what the guest has given back, tell its driver when it may try again, and make room when
//! the host's memory is short.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tmem_host::health::Health;
use tmem_host::pressure::Pressure;
use tmem_host::registry::Registry;

use crate::confine::Role;
use crate::recurring::Recurring;

/// How often.
const INTERVAL: Duration = Duration::from_millis(500);

/// A thread that does it until this is dropped.
#[derive(Debug)]
pub(super) struct Care(#[expect(dead_code, reason = "ends the thread")] Recurring);

impl Care {
    pub(super) fn start(registry: Arc<Registry>, health: Arc<Health>) -> io::Result<Self> {
        // Opens files.
        let mut pressure = Pressure::of_host();
        let thread = Recurring::start("care", Role::Care, move |end| {
            loop {
                for entry in registry.list() {
                    entry.machine().look_after();
                }
                health.evicted(pressure.look(&registry));
                if end.comes_within(INTERVAL) {
                    return;
                }
            }
        })?;
        Ok(Self(thread))
    }
}
