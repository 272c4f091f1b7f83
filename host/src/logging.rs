// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where log lines go: to stderr, which a service manager keeps.

use log::LevelFilter;

/// Starts logging at `level`.
///
/// The virtqueue and vhost-user crates log whatever a driver or a front end
/// does wrong, without limit; the device's counters and its own rate-limited
/// line tell the same, so those crates are heard at level trace only.
pub fn start(level: LevelFilter) {
    let foreign = if level == LevelFilter::Trace {
        LevelFilter::Trace
    } else {
        LevelFilter::Off
    };
    // A filter is a prefix of the target: "vhost" alone would silence
    // vhost_user_tmem as well.
    env_logger::Builder::new()
        .filter_level(level)
        .filter_module("virtio_queue", foreign)
        .filter_module("vhost_user_backend", foreign)
        .filter_module("vhost::", foreign)
        .filter_module("vm_memory", foreign)
        .format_target(false)
        .init();
}
