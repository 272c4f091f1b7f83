// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices that count.

use tmem_host::metrics::Metric;

/// A device's metrics, read anew each time.
pub struct Reported {
    /// The sort of device: `disk`, `net`, `rng`, `tmem`.
    pub kind: &'static str,
    /// Its name among its kind: `vda`, `eth0`.
    pub name: String,
    metrics: Box<dyn Fn() -> Vec<Metric> + Send + Sync>,
}

impl Reported {
    /// A device whose metrics `metrics` gives.
    pub fn new(
        kind: &'static str,
        name: String,
        metrics: impl Fn() -> Vec<Metric> + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            name,
            metrics: Box::new(metrics),
        }
    }

    /// What was counted so far.
    pub fn metrics(&self) -> Vec<Metric> {
        (self.metrics)()
    }
}
