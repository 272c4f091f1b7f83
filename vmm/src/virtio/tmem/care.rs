// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A thread that does for an in-process store what the daemon does for its own.

use std::io;
use std::sync::Arc;

use tmem_host::care;
use tmem_host::health::Health;
use tmem_host::registry::Registry;

use crate::confine::Role;
use crate::recurring::Recurring;

/// Does it until this is dropped.
#[derive(Debug)]
pub(super) struct Care(#[expect(dead_code, reason = "ends the thread")] Recurring);

impl Care {
    pub(super) fn start(registry: Arc<Registry>, health: Arc<Health>) -> io::Result<Self> {
        // Opens files.
        let mut care = care::Care::of_host();
        let thread = Recurring::start("care", Role::Care, move |end| {
            loop {
                care.look(&registry, &health);
                if end.comes_within(care::INTERVAL) {
                    return;
                }
            }
        })?;
        Ok(Self(thread))
    }
}
