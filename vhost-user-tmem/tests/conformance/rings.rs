// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Rings that make no sense.

use crate::daemon::Daemon;
use crate::front_end::{FrontEnd, GUEST, words};

/// An available ring over the used ring: each buffer that the device marks
/// used makes the next one available.
#[test]
fn a_ring_that_feeds_itself_holds_up_neither_the_next_front_end_nor_the_end() {
    let mut daemon = Daemon::start();
    let mut a = FrontEnd::connect(&daemon.socket("a"), 1 << 20);
    assert_eq!(a.share_memory(1 << 20), Some(0));
    a.write(0, &words(&[GUEST, 0]));
    a.start_queue(0x1000, 0x1000);
    a.write(0x1002, &1u16.to_le_bytes());
    a.kick();
    drop(a);

    // Served only when the one before has ended.
    let mut next = FrontEnd::connect(&daemon.socket("a"), 1 << 20);
    assert_eq!(next.share_memory(1 << 20), Some(0));
    assert!(daemon.terminate().unwrap().success());
}
