// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Signals, and who decides about them.

use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::front_end::FrontEnd;

/// Whether the process ignores `signal` (proc_pid_status(5)).
fn ignores(id: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:\t"))
        .unwrap();
    u64::from_str_radix(mask, 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

#[test]
fn a_signal_that_was_ignored_at_the_start_ends_nothing() {
    let mut daemon = Daemon::start_ignoring("HUP INT QUIT");
    assert!(ignores(daemon.id(), Signal::INT));
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT] {
        daemon.signal(signal);
    }
    let mut a = FrontEnd::connect(&daemon.socket("a"), 1 << 20);
    assert_eq!(a.share_memory(1 << 20), Some(0));
    assert_eq!(daemon.terminate().and_then(|end| end.code()), Some(0));
}
