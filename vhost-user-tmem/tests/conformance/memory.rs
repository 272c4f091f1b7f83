// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory that is not what it is said to be.

use std::os::fd::AsFd;

use crate::daemon::Daemon;
use crate::front_end::{ADD_MEM_REG, FrontEnd, GUEST, USER, words};
use crate::request::ask_limits;

const MEMORY: u64 = 1 << 20;

fn machine(daemon: &Daemon, name: &str) -> FrontEnd {
    let mut front_end = FrontEnd::connect(&daemon.socket(name), MEMORY);
    assert_eq!(front_end.share_memory(MEMORY), Some(0));
    front_end.start();
    ask_limits(&mut front_end, 0x4000);
    assert!(front_end.is_answered());
    front_end
}

#[test]
fn memory_that_is_truncated_ends_that_connection_only() {
    let mut daemon = Daemon::start();
    let mut a = machine(&daemon, "a");
    let mut b = machine(&daemon, "b");

    // The rings stay; where the answer is to be is gone.
    a.memory.set_len(0x8000).unwrap();
    ask_limits(&mut a, MEMORY - 0x1000);

    assert_eq!(a.receive(), None, "the connection has ended");
    ask_limits(&mut b, 0x4000);
    assert!(b.is_answered());
    drop(a);
    machine(&daemon, "a");
    assert!(daemon.is_running());
}

#[test]
fn a_region_longer_than_its_file_is_refused() {
    let mut daemon = Daemon::start();
    let mut a = FrontEnd::connect(&daemon.socket("a"), MEMORY);
    assert_ne!(a.share_memory(2 * MEMORY), Some(0));
    machine(&daemon, "b");
    assert!(daemon.is_running());
}

/// Adds the first page of the memory's file at another place, the `nth`.
fn add_region(front_end: &mut FrontEnd, nth: u64) -> Option<u64> {
    let offset = nth * MEMORY;
    let payload = words(&[0, GUEST + offset, 4096, USER + offset, 0]);
    let file = front_end.memory.try_clone().unwrap();
    front_end.ask(ADD_MEM_REG, &payload, &[file.as_fd()])
}

#[test]
fn regions_without_end_are_refused_and_leave_others_their_share() {
    let mut daemon = Daemon::start();
    let mut a = machine(&daemon, "a");
    let added = (1..=3000).take_while(|nth| add_region(&mut a, *nth) == Some(0));
    let added = added.count();
    // One slot is that of the first region.
    assert_eq!(added, 508);

    let mut b = machine(&daemon, "b");
    for nth in 1..509 {
        assert_eq!(add_region(&mut b, nth), Some(0), "{nth}");
    }
    ask_limits(&mut b, 508 * MEMORY);
    assert!(b.is_answered());
    assert!(daemon.is_running());
}

#[test]
fn neither_guest_memory_nor_the_stores_is_in_core_dumps() {
    let daemon = Daemon::start();
    let _a = machine(&daemon, "a");
    let maps = std::fs::read_to_string(format!("/proc/{}/smaps", daemon.id())).unwrap();
    for name in ["/memfd:guest ", "/memfd:tmem-pages "] {
        // Behind the line with its name: the flags of the mapping.
        let mappings: Vec<&str> = maps.split(name).skip(1).collect();
        assert!(!mappings.is_empty(), "{name}");
        for mapping in mappings {
            let flags = mapping
                .lines()
                .find_map(|line| line.strip_prefix("VmFlags:"));
            assert!(flags.unwrap().contains(" dd"), "{name}: {mapping}");
        }
    }
}
