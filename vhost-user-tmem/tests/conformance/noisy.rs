// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One machine that does all it can to be in the way, and one that goes on beside it.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::daemon::Daemon;
use crate::front_end::FrontEnd;
use crate::request::{EPHEMERAL, OK, create_pool, create_pool_of, destroy_pool, get, put_there};

const MEMORY: u64 = 1 << 20;

/// Requests that the other machine makes, each of which is to be answered.
const REQUESTS: u64 = 4000;

/// Fills its quota with pages that cannot be compressed, evicts, destroys, sends nonsense, and
/// connects anew in the middle of it.
fn disturb(daemon: &Daemon, over: &AtomicBool, done: &AtomicU64) {
    let mut random = fastrand::Rng::with_seed(7);
    while !over.load(Relaxed) {
        let mut b = FrontEnd::connect(&daemon.socket("b"), MEMORY);
        assert_eq!(b.share_memory(MEMORY), Some(0));
        b.start();
        let _ = create_pool(&mut b, 0);
        let _ = create_pool_of(&mut b, 1, EPHEMERAL);
        for _ in 0..2000 {
            if over.load(Relaxed) {
                break;
            }
            match random.u8(..) {
                // Chains that make no sense: another operation, no room for an answer, a
                // buffer outside of its memory.
                0..16 => {
                    let junk: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(48).collect();
                    b.write(0x3000, &junk);
                    b.offer(&[(0x3000, 48, false), (0x4000, 17, true)]);
                    assert!(b.is_answered());
                }
                16..20 => {
                    let _ = destroy_pool(&mut b, 1);
                    let _ = create_pool_of(&mut b, 1, EPHEMERAL);
                }
                _ => {
                    let page: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
                        .take(4096)
                        .collect();
                    b.write(crate::request::DATA, &page);
                    let _ = put_there(&mut b, random.u32(0..2), random.u64(..));
                }
            }
            done.fetch_add(1, Relaxed);
        }
        // Others of it are turned away, or wait, and say nothing.
        let _idle: Vec<_> = (0..8)
            .map_while(|_| UnixStream::connect(daemon.socket("b")).ok())
            .collect();
    }
}

#[test]
fn others_are_served_beside_a_machine_that_is_as_noisy_as_it_can_be() {
    let daemon = Daemon::start();
    let mut a = FrontEnd::connect(&daemon.socket("a"), MEMORY);
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
    assert_eq!(create_pool(&mut a, 0), OK);
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let noise = scope.spawn(|| disturb(&daemon, &over, &done));
        // Not before it has filled its quota of 16 MiB.
        while done.load(Relaxed) < 5000 && !noise.is_finished() {
            std::thread::yield_now();
        }
        for nth in 0..REQUESTS {
            let index = nth % 512;
            let byte = u8::try_from(nth % 251).unwrap();
            a.write(crate::request::DATA, &[byte; 4096]);
            // Each within the deadline of a request, and none is refused.
            assert_eq!(put_there(&mut a, 0, index), OK, "{nth}");
            assert_eq!(get(&mut a, 0, index), (OK, OK, byte), "{nth}");
        }
        assert!(!noise.is_finished(), "it went on until the end");
        over.store(true, Relaxed);
    });
    assert!(a.is_connected());
}
