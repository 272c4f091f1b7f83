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
