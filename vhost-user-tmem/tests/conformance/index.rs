// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a driver can make the daemon keep beside pages.

use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::front_end::FrontEnd;

const MEMORY: u64 = 1 << 20;

/// Pages that are put, each in a block of the index of its own.
const PAGES: u64 = 30_000;

fn header(operation: u16, pool: u32, index: u64, count: u32) -> Vec<u8> {
    let mut bytes = operation.to_le_bytes().to_vec();
    bytes.extend(0u16.to_le_bytes());
    bytes.extend(pool.to_le_bytes());
    bytes.extend([0; 24]);
    bytes.extend(index.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes
}

/// Runs a request whose data begin at 0x6000; its status.
fn run(front_end: &mut FrontEnd, header: &[u8], data: u32) -> u8 {
    front_end.write(0x3000, header);
    let answer = (0x4000, 16 + u32::from(data == 4096), true);
    if data == 0 {
        front_end.offer(&[(0x3000, 48, false), answer]);
    } else {
        front_end.offer(&[(0x3000, 48, false), (0x6000, data, false), answer]);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while front_end.used_index(0x2000) != front_end.offered() {
        assert!(Instant::now() < deadline, "a request is not answered");
        std::thread::yield_now();
    }
    front_end.read(0x4000)
}

/// The index of a pool that is gone goes back to the system: it neither stays
/// with the thread that made it nor with the daemon.
#[test]
fn the_memory_of_an_index_goes_back() {
    let daemon = Daemon::start();
    let mut a = FrontEnd::connect(&daemon.socket("a"), MEMORY);
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
    let idle = daemon.private_bytes();
    a.write(0x6000, &1u32.to_le_bytes());
    assert_eq!(run(&mut a, &header(1, 0, 0, 0), 32), 0);
    a.write(0x6000, &[0; 32]);
    for page in 0..PAGES {
        assert_eq!(run(&mut a, &header(3, 0, 16 * page, 1), 4096), 0);
    }
    // One more pool, last: it lies on top of all that, in every part of the index.
    a.write(0x6000, &1u32.to_le_bytes());
    assert_eq!(run(&mut a, &header(1, 1, 0, 0), 32), 0);
    a.write(0x6000, &[0; 32]);
    for page in 0..64 {
        assert_eq!(run(&mut a, &header(3, 1, 4096 * page, 1), 4096), 0);
    }
    let full = daemon.private_bytes();
    assert!(full > idle + (4 << 20), "{full} bytes, {idle} before");

    assert_eq!(run(&mut a, &header(2, 0, 0, 0), 0), 0);
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
