// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a driver can make the daemon keep beside pages.

use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::front_end::FrontEnd;
use crate::request::{OK, create_pool, destroy_pool, put};

const MEMORY: u64 = 1 << 20;

/// Pages that are put, each in a block of the index of its own.
const PAGES: u64 = 30_000;

/// The index of a pool that is gone goes back to the system: it neither stays
/// with the thread that made it nor with the daemon.
#[test]
fn the_memory_of_an_index_goes_back() {
    let daemon = Daemon::start();
    let mut a = FrontEnd::connect(&daemon.socket("a"), MEMORY);
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
    let idle = daemon.private_bytes();
    assert_eq!(create_pool(&mut a, 0), OK);
    for page in 0..PAGES {
        assert_eq!(put(&mut a, 0, 16 * page, 0), OK);
    }
    // One more pool, last: it lies on top of all that, in every part of the index.
    assert_eq!(create_pool(&mut a, 1), OK);
    for page in 0..64 {
        assert_eq!(put(&mut a, 1, 4096 * page, 0), OK);
    }
    let full = daemon.private_bytes();
    assert!(full > idle + (4 << 20), "{full} bytes, {idle} before");

    assert_eq!(destroy_pool(&mut a, 0), OK);
    let deadline = Instant::now() + Duration::from_secs(20);
    while daemon.private_bytes() > idle + (1 << 20) {
        assert!(
            Instant::now() < deadline,
            "{} bytes stay with the daemon, which had {idle} before and {full} in between",
            daemon.private_bytes()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
