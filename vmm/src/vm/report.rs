// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices that count.

use tmem_host::figures::Figure;

/// A device's figures, read anew each time.
pub struct Reported {
    /// The sort of device: `disk`, `net`, `rng`, `tmem`.
    pub kind: &'static str,
    /// Its name among its kind: `vda`, `eth0`.
    pub name: String,
    figures: Box<dyn Fn() -> Vec<Figure> + Send + Sync>,
}

impl Reported {
    /// A device whose figures `figures` gives.
    pub fn new(
        kind: &'static str,
        name: String,
        figures: impl Fn() -> Vec<Figure> + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            name,
            figures: Box::new(figures),
        }
    }

    /// What was counted so far.
    pub fn figures(&self) -> Vec<Figure> {
        (self.figures)()
    }
}
