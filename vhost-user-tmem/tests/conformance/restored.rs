// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A machine that comes back within the grace period: the same, or one that was
//! restored from a snapshot by a front end that asks for nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::daemon::Daemon;
use crate::front_end::FrontEnd;
use crate::request::{EXISTS, OK, create_pool, get, put};

const MEMORY: u64 = 1 << 20;
/// The pool is not there.
const NO_POOL: u8 = 0x42;

fn content(memory: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(MEMORY).unwrap()];
    memory.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A machine whose page 3 is of ones, then the content of its memory, then its page 3 is
/// of twos and its front end leaves.
fn snapshot(daemon: &Daemon) -> (File, Vec<u8>) {
    let mut a = FrontEnd::connect(&daemon.socket("a"), MEMORY);
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
    assert_eq!(create_pool(&mut a, 0), OK);
    assert_eq!(put(&mut a, 0, 3, 1), OK);
    assert_eq!(get(&mut a, 0, 3), (OK, OK, 1));
    let snapshot = content(&a.memory);
    assert_eq!(put(&mut a, 0, 3, 2), OK);
    (a.memory.try_clone().unwrap(), snapshot)
}

fn come_back(daemon: &Daemon, memory: File) -> FrontEnd {
    let mut a = FrontEnd::connect_with(&daemon.socket("a"), memory);
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
    a
}

#[test]
fn the_same_machine_finds_its_pages() {
    let daemon = Daemon::start();
    let (memory, _) = snapshot(&daemon);
    for _ in 0..3 {
        // A front end that leaves before a queue is served changes nothing.
        drop(FrontEnd::connect(&daemon.socket("a"), MEMORY));
        let mut a = come_back(&daemon, memory.try_clone().unwrap());
        assert_eq!(get(&mut a, 0, 3), (OK, OK, 2));
    }
}

#[test]
fn a_machine_that_was_restored_does_not_meet_its_future() {
    let daemon = Daemon::start();
    for in_place in [false, true] {
        let (memory, snapshot) = snapshot(&daemon);
        let memory = if in_place {
            memory
        } else {
            tempfile::tempfile().unwrap()
        };
        memory.write_all_at(&snapshot, 0).unwrap();
        let mut a = come_back(&daemon, memory.try_clone().unwrap());
        let (status, ..) = get(&mut a, 0, 3);
        assert_eq!(status, NO_POOL, "restored in place: {in_place}");
        assert_eq!(create_pool(&mut a, 0), OK);
        assert_eq!(put(&mut a, 0, 3, 4), OK);
        drop(a);
        // From now on it is the machine that is known.
        let mut a = come_back(&daemon, memory);
        assert_eq!(create_pool(&mut a, 0), EXISTS);
        assert_eq!(get(&mut a, 0, 3), (OK, OK, 4));
        drop(a);
        // The next round's machine is another one.
        let mut b = FrontEnd::connect(&daemon.socket("a"), MEMORY);
        assert_eq!(b.share_memory(MEMORY), Some(0));
        b.start();
        assert_eq!(create_pool(&mut b, 0), OK);
        assert_eq!(crate::request::destroy_pool(&mut b, 0), OK);
    }
}

/// Where the parts of queues lie: of two at the same time, and of a new driver's.
const ONE: u64 = 0;
const TWO: u64 = 0x4_0000;
const NEW: u64 = 0x8_0000;

fn start(front_end: &mut FrontEnd, queue: u32, parts: u64) {
    front_end.turn_to(queue, parts);
    front_end.start();
}

/// A front end of this memory, no queue of which is started.
fn connect(daemon: &Daemon, memory: &File) -> FrontEnd {
    let memory = memory.try_clone().unwrap();
    let mut a = FrontEnd::connect_with(&daemon.socket("a"), memory);
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a
}

/// A machine with two queues that got page 3 of ones, the content of its memory, and page 3
/// of twos since, by the first queue only.
fn two_queues(daemon: &Daemon) -> (FrontEnd, Vec<u8>) {
    let mut a = FrontEnd::connect(&daemon.socket("a"), MEMORY);
    assert_eq!(a.share_memory(MEMORY), Some(0));
    start(&mut a, 1, ONE);
    assert_eq!(create_pool(&mut a, 0), OK);
    assert_eq!(put(&mut a, 0, 3, 1), OK);
    start(&mut a, 2, TWO);
    assert_eq!(get(&mut a, 0, 3), (OK, OK, 1));
    let snapshot = content(&a.memory);
    a.turn_to(1, ONE);
    assert_eq!(put(&mut a, 0, 3, 2), OK);
    (a, snapshot)
}

/// A machine whose first queue put page 3 and was stopped, connected anew with its memory as it
/// was before the put.
fn restored_with_one_queue(daemon: &Daemon) -> FrontEnd {
    let mut a = FrontEnd::connect(&daemon.socket("a"), MEMORY);
    assert_eq!(a.share_memory(MEMORY), Some(0));
    start(&mut a, 1, ONE);
    assert_eq!(create_pool(&mut a, 0), OK);
    let snapshot = content(&a.memory);
    assert_eq!(put(&mut a, 0, 3, 2), OK);
    a.stop_queue();
    let memory = a.memory.try_clone().unwrap();
    drop(a);
    memory.write_all_at(&snapshot, 0).unwrap();
    connect(daemon, &memory)
}

/// Does something with both queues.
fn with_both(front_end: &mut FrontEnd, what: fn(&mut FrontEnd)) {
    for (queue, parts) in [(1, ONE), (2, TWO)] {
        front_end.turn_to(queue, parts);
        what(front_end);
    }
}

fn stop(front_end: &mut FrontEnd) {
    with_both(front_end, FrontEnd::stop_queue);
}

fn disable(front_end: &mut FrontEnd) {
    with_both(front_end, FrontEnd::disable_queue);
}

#[test]
fn a_queue_that_has_not_moved_is_not_served_before_one_that_has() {
    for stopped in [false, true] {
        let daemon = Daemon::start();
        let (mut a, snapshot) = two_queues(&daemon);
        if stopped {
            stop(&mut a);
        }
        let memory = a.memory.try_clone().unwrap();
        drop(a);
        memory.write_all_at(&snapshot, 0).unwrap();
        let mut a = connect(&daemon, &memory);
        start(&mut a, 2, TWO);
        assert_eq!(get(&mut a, 0, 3).0, NO_POOL, "stopped: {stopped}");
    }
}

#[test]
fn queues_that_were_not_served_last_are_known() {
    let daemon = Daemon::start();
    let (a, snapshot) = two_queues(&daemon);
    let memory = a.memory.try_clone().unwrap();
    drop(a);
    let mut a = connect(&daemon, &memory);
    start(&mut a, 2, TWO);
    assert_eq!(get(&mut a, 0, 3), (OK, OK, 2));
    // All that belongs to the first queue goes back in time.
    let range = 0..usize::try_from(TWO).unwrap();
    drop(a);
    memory
        .write_all_at(snapshot.get(range).unwrap(), 0)
        .unwrap();
    let mut a = connect(&daemon, &memory);
    start(&mut a, 1, ONE);
    assert_eq!(get(&mut a, 0, 3).0, NO_POOL);
}

#[test]
fn queues_from_nothing_are_not_the_same_machine_unless_all_were_stopped() {
    let ways: [Option<fn(&mut FrontEnd)>; 3] = [None, Some(stop), Some(disable)];
    for (stop, parts) in ways.into_iter().flat_map(|way| [(way, ONE), (way, NEW)]) {
        let daemon = Daemon::start();
        let (mut a, _) = two_queues(&daemon);
        if let Some(stop) = stop {
            stop(&mut a);
        }
        let memory = a.memory.try_clone().unwrap();
        drop(a);
        // The driver has used the memory for something else.
        memory.write_all_at(&[0x5a; 0x3000], TWO).unwrap();
        memory.write_all_at(&[0; 0x3000], parts).unwrap();
        let mut a = connect(&daemon, &memory);
        start(&mut a, 1, parts);
        let found = get(&mut a, 0, 3);
        if stop.is_some() {
            assert_eq!(found, (OK, OK, 2));
            memory.write_all_at(&[0; 0x3000], TWO).unwrap();
            start(&mut a, 2, TWO);
            assert_eq!(get(&mut a, 0, 3), (OK, OK, 2));
        } else {
            assert_eq!(found.0, NO_POOL);
        }
    }
}

#[test]
fn a_queue_elsewhere_that_does_not_begin_is_not_the_same_machine() {
    let daemon = Daemon::start();
    let (mut a, snapshot) = two_queues(&daemon);
    stop(&mut a);
    let range = 0..0x3000;
    a.memory
        .write_all_at(snapshot.get(range).unwrap(), NEW)
        .unwrap();
    let memory = a.memory.try_clone().unwrap();
    drop(a);
    let mut a = connect(&daemon, &memory);
    start(&mut a, 1, NEW);
    assert_eq!(get(&mut a, 0, 3).0, NO_POOL);
}

/// A queue that was never used shows nothing.
#[test]
fn a_queue_that_shows_nothing_waits_for_one_that_does() {
    for restored in [false, true] {
        let daemon = Daemon::start();
        let mut a = restored_with_one_queue(&daemon);
        start(&mut a, 2, TWO);
        a.write(
            0xc_0000,
            &crate::request::header(crate::request::GET_LIMITS, 0, 0, 0),
        );
        a.offer(&[(0xc_0000, 48, false), (0xc_1000, 80, true)]);
        let parts = if restored { ONE } else { NEW };
        start(&mut a, 1, parts);
        let found = get(&mut a, 0, 3);
        if restored {
            assert_eq!(found.0, NO_POOL);
        } else {
            assert_eq!(found, (OK, OK, 2));
        }
        a.turn_to(2, TWO);
        assert!(a.is_answered());
    }
}

#[test]
fn a_queue_that_waits_for_one_that_is_never_used_is_answered_without_pages() {
    let daemon = Daemon::start();
    let mut a = restored_with_one_queue(&daemon);
    start(&mut a, 2, TWO);
    assert_eq!(get(&mut a, 0, 3).0, NO_POOL);
}

#[test]
fn a_machine_that_is_restored_within_a_connection_does_not_meet_its_future() {
    for (stops, shares) in [(true, false), (true, true), (false, true), (false, false)] {
        let daemon = Daemon::start();
        let (mut a, snapshot) = two_queues(&daemon);
        if stops {
            stop(&mut a);
        }
        a.memory.write_all_at(&snapshot, 0).unwrap();
        if shares {
            assert_eq!(a.share_memory(MEMORY), Some(0));
        }
        start(&mut a, 2, TWO);
        assert_eq!(get(&mut a, 0, 3).0, NO_POOL, "{stops} {shares}");
    }
}

#[test]
fn a_queue_that_is_stopped_and_started_again_goes_on() {
    let daemon = Daemon::start();
    let (mut a, _) = two_queues(&daemon);
    for _ in 0..3 {
        stop(&mut a);
        assert_eq!(a.share_memory(MEMORY), Some(0));
        for (queue, parts) in [(2, TWO), (1, ONE)] {
            start(&mut a, queue, parts);
            assert_eq!(get(&mut a, 0, 3), (OK, OK, 2));
        }
    }
    // Other memory at the same place.
    stop(&mut a);
    let copy = tempfile::tempfile().unwrap();
    copy.write_all_at(&content(&a.memory), 0).unwrap();
    a.memory = copy;
    assert_eq!(a.share_memory(MEMORY), Some(0));
    start(&mut a, 1, ONE);
    assert_eq!(get(&mut a, 0, 3).0, NO_POOL);
}

/// As User-Mode Linux does it when a driver is bound again.
#[test]
fn queues_that_were_disabled_begin_anew_in_the_same_connection() {
    let daemon = Daemon::start();
    let (mut a, _) = two_queues(&daemon);
    for _ in 0..3 {
        disable(&mut a);
        for (queue, parts) in [(1, ONE), (2, TWO)] {
            a.write(parts, &[0; 0x3000]);
            start(&mut a, queue, parts);
            assert_eq!(get(&mut a, 0, 3), (OK, OK, 2));
        }
    }
}

#[test]
fn a_queue_that_is_disabled_for_a_while_goes_on() {
    let daemon = Daemon::start();
    let (mut a, _) = two_queues(&daemon);
    for _ in 0..3 {
        disable(&mut a);
        disable(&mut a);
        with_both(&mut a, |a| {
            a.enable_queue();
            assert_eq!(get(a, 0, 3), (OK, OK, 2));
        });
    }
    // It does not begin anew while another one goes on.
    a.turn_to(1, ONE);
    a.disable_queue();
    a.write(ONE, &[0; 0x3000]);
    start(&mut a, 1, ONE);
    assert_eq!(get(&mut a, 0, 3).0, NO_POOL);
}
