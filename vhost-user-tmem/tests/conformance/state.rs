// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A VM that is saved.

use std::os::fd::AsFd;

use crate::daemon::Daemon;
use crate::front_end::{FrontEnd, P_DEVICE_STATE, SET_DEVICE_STATE_FD, pair};

/// Restored, it would go back in time, and its pools would not. The connection ends, so that a
/// front end which has stopped the queues before it asked sets them up anew.
#[test]
fn saving_the_device_is_offered_and_refused() {
    let daemon = Daemon::start();
    let mut a = FrontEnd::connect(&daemon.socket("a"), 1 << 20);
    assert_ne!(a.protocol & P_DEVICE_STATE, 0);

    let file = tempfile::tempfile().unwrap();
    a.send(SET_DEVICE_STATE_FD, 1, &pair(0, 0), &[file.as_fd()]);

    // Bits 0 to 7 of the answer: an error.
    assert_ne!(a.receive().unwrap() & 0xff, 0);
    assert_eq!(a.receive(), None);
    assert!(!a.is_connected());
}
