// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A log that nobody reads.

use std::process::Stdio;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::daemon::Daemon;
use crate::front_end::FrontEnd;

#[test]
fn a_log_that_nobody_reads_holds_up_neither_front_ends_nor_the_end() {
    let (_unread, log) = rustix::pipe::pipe().unwrap();
    fcntl_setfl(&log, fcntl_getfl(&log).unwrap() | OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&log, &[b'x'; 4096]).is_ok() {}
    while rustix::io::write(&log, b"x").is_ok() {}
    fcntl_setfl(&log, fcntl_getfl(&log).unwrap() - OFlags::NONBLOCK).unwrap();

    let mut daemon = Daemon::start_with(Stdio::from(log));
    // Each makes lines when it comes and when it goes.
    for _ in 0..3 {
        for name in ["a", "b"] {
            let mut front_end = FrontEnd::connect(&daemon.socket(name), 1 << 20);
            assert_eq!(front_end.share_memory(1 << 20), Some(0));
            front_end.start();
            front_end.offer(&[(0x3000, 48, false), (0x4000, 80, true)]);
            assert!(front_end.is_answered());
        }
    }
    assert!(daemon.terminate().unwrap().success());
}
