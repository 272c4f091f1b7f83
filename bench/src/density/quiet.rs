// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether other work runs on the machine.

use crate::report;
use std::time::Duration;
use std::time::Instant;

/// A load of the last minute above which metrics are not worth keeping.
pub(super) const BUSY: f64 = 1.0;

/// For the load of what came before, such as building this, to be gone.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until the machine is quiet, but not for long; gives back its load.
pub(super) fn wait() -> f64 {
    let begin = Instant::now();
    let first = load();
    if first > BUSY {
        println!(
            "waiting for this machine to be quiet, at most {} s: its load is {first}",
            PATIENCE.as_secs()
        );
    }
    while load() > BUSY && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_secs(5));
    }
    load()
}

/// The load of the last minute; none if the kernel does not say.
fn load() -> f64 {
    let text = report::load();
    let first = text.split_whitespace().next();
    first.and_then(|load| load.parse().ok()).unwrap_or_default()
}
