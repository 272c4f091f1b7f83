// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Front ends that come too many, talk nonsense, or ask for what cannot be.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::front_end::{
    FrontEnd, GET_FEATURES, SET_VRING_ADDR, SET_VRING_NUM, USER, connect, pair, words,
};
use crate::request::{OK, create_pool, put};

const MEMORY: u64 = 1 << 20;

fn machine(daemon: &Daemon, name: &str) -> FrontEnd {
    let mut front_end = FrontEnd::connect(&daemon.socket(name), MEMORY);
    assert_eq!(front_end.share_memory(MEMORY), Some(0));
    front_end
}

#[test]
fn a_second_front_end_is_turned_away_and_the_first_goes_on() {
    let daemon = Daemon::start();
    let mut a = machine(&daemon, "a");
    a.start();
    assert_eq!(create_pool(&mut a, 0), OK);
    for _ in 0..3 {
        let mut second = FrontEnd::to(&daemon.socket("a"));
        second.send(GET_FEATURES, 1, &[], &[]);
        assert_eq!(second.receive(), None);
        assert_eq!(put(&mut a, 0, 1, 1), OK);
    }
    drop(a);
    // Who comes as the first one leaves is served.
    let mut a = machine(&daemon, "a");
    a.start();
}

#[test]
fn connections_that_talk_nonsense_do_not_hold_up_the_next() {
    let daemon = Daemon::start();
    let began = Instant::now();
    for _ in 0..100 {
        let mut stream = connect(&daemon.socket("a"));
        // A message of 4 GiB, of an unknown kind and version.
        let _ = stream.write_all(&[0xff; 12]);
        drop(stream);
    }
    machine(&daemon, "a").start();
    // A second of waiting after each would make it 100 s.
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn sizes_that_no_queue_can_have_are_refused() {
    let daemon = Daemon::start();
    for size in [0, 3, 255, 257, 0x8000, 0x1_0000, u32::MAX] {
        let mut a = machine(&daemon, "a");
        let refused = |answer: Option<u64>| answer != Some(0);
        let mut address = pair(1, 0);
        address.extend(words(&[USER, USER + 0x2000, USER + 0x1000, 0]));
        // At once, or when the rings are placed.
        assert!(
            refused(a.ask(SET_VRING_NUM, &pair(1, size), &[]))
                || refused(a.ask(SET_VRING_ADDR, &address, &[])),
            "{size}"
        );
    }
    machine(&daemon, "a").start();
}
