// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is to be done for an in-process store every so often, as the daemon does it: see
//! what the guest has given back, tell its driver when it may try again, and make room when
//! the host's memory is short.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tmem_host::health::Health;
use tmem_host::pressure::Pressure;
use tmem_host::registry::Registry;

use crate::confine::{self, Role};

/// How often.
const INTERVAL: Duration = Duration::from_millis(500);

/// A thread that does it until this is dropped.
#[derive(Debug)]
pub(super) struct Care {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Care {
    pub(super) fn start(registry: Arc<Registry>, health: Arc<Health>) -> io::Result<Self> {
        let (end, ended) = channel::<()>();
        // Opens files.
        let mut pressure = Pressure::of_host();
        let thread = confine::spawn("care", Role::Care, move || {
            loop {
                for entry in registry.list() {
                    entry.machine().look_after();
                }
                health.evicted(pressure.look(&registry));
                if ended.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Care {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
