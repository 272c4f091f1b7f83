// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is counted of a front end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tmem_host::metrics::Metric;

/// What a front end counts. Shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Counters {
    connected: AtomicBool,
    connections: AtomicU64,
    resets_asked: AtomicU64,
}

impl Counters {
    /// Whether a daemon that can be used is connected now.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// Connections to a daemon that could be used, so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// How often the driver was asked to reset the device.
    pub fn resets_asked(&self) -> u64 {
        self.resets_asked.load(Relaxed)
    }

    /// All of them, under stable names.
    pub fn metrics(&self) -> Vec<Metric> {
        vec![
            Metric::gauge(
                "connected",
                self.is_connected().into(),
                "1 while the daemon is connected.",
            ),
            Metric::counter(
                "connections",
                self.connections(),
                "Connections to the daemon so far.",
            ),
            Metric::counter(
                "resets_asked",
                self.resets_asked(),
                "Resets asked of the driver of virtio-tmem, because the daemon has not the pages that it had.",
            ),
        ]
    }

    pub(super) fn connect(&self) {
        self.connections.fetch_add(1, Relaxed);
        self.connected.store(true, Relaxed);
    }

    pub(super) fn disconnect(&self) {
        self.connected.store(false, Relaxed);
    }

    pub(super) fn ask_for_reset(&self) {
        self.resets_asked.fetch_add(1, Relaxed);
    }
}
