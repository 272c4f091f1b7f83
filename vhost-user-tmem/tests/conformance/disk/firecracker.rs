// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! As Firecracker's vhost-user block device: one queue of 256, RO of the disk's features, and
//! FLUSH with `"cache_type": "Writeback"`, of the protocol's CONFIG alone, no answers to what has
//! none, the configuration read again on request, and no second connection. Until the guest
//! runs it is what version 1.16.1 sends.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::requests::{OK, block, flush, id, read, write};
use super::{DISK, MEMORY, memory};
use crate::daemon::Daemon;
use crate::front_end::{
    AVAILABLE, F_PROTOCOL, F_VERSION_1, FrontEnd, GET_FEATURES, GET_PROTOCOL_FEATURES, GUEST,
    SET_FEATURES, SET_MEM_TABLE, SET_OWNER, SET_PROTOCOL_FEATURES, SET_VRING_ADDR, SET_VRING_BASE,
    SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_KICK, SET_VRING_NUM, TABLE, USED, USER, pair,
    words,
};

const F_EVENT_IDX: u64 = 1 << 29;
const F_BLK_RO: u64 = 1 << 5;
const F_BLK_FLUSH: u64 = 1 << 9;
const P_CONFIG: u64 = 1 << 9;

/// The machine's disk, before its guest runs: the features that its driver is offered.
pub(super) fn connect(path: &Path, memory: File) -> (FrontEnd, u64) {
    let mut a = FrontEnd::silent(path, memory);
    a.send(SET_OWNER, 1, &[], &[]);
    a.send(GET_FEATURES, 1, &[], &[]);
    let wanted = F_VERSION_1 | F_EVENT_IDX | F_PROTOCOL | F_BLK_RO | F_BLK_FLUSH;
    let features = a.receive().unwrap() & wanted;
    a.send(GET_PROTOCOL_FEATURES, 1, &[], &[]);
    let protocol = a.receive().unwrap() & P_CONFIG;
    a.send(SET_PROTOCOL_FEATURES, 1, &words(&[protocol]), &[]);
    (a, features)
}

/// Its driver is ready.
pub(super) fn activate(a: &mut FrontEnd, features: u64) {
    a.send(SET_FEATURES, 1, &words(&[features]), &[]);
    let mut table = pair(1, 0);
    table.extend(words(&[GUEST, MEMORY, USER, 0]));
    let memory = a.memory.try_clone().unwrap();
    a.send(SET_MEM_TABLE, 1, &table, &[memory.as_fd()]);
    a.send(SET_VRING_NUM, 1, &pair(0, 256), &[]);
    let mut address = pair(0, 0);
    address.extend(words(&[USER + TABLE, USER + USED, USER + AVAILABLE, 0]));
    a.send(SET_VRING_ADDR, 1, &address, &[]);
    a.send(SET_VRING_BASE, 1, &pair(0, 0), &[]);
    let (call, kick) = (a.call_event(), a.kick_event());
    a.send(SET_VRING_CALL, 1, &words(&[0]), &[call.as_fd()]);
    a.send(SET_VRING_KICK, 1, &words(&[0]), &[kick.as_fd()]);
    a.send(SET_VRING_ENABLE, 1, &pair(0, 1), &[]);
}

fn sectors(config: &[u8]) -> u64 {
    u64::from_le_bytes(config[..8].try_into().unwrap())
}

#[test]
fn its_guest_reads_what_it_wrote() {
    let daemon = Daemon::start_with_disk("");
    let (mut a, features) = connect(&daemon.socket("a"), memory());
    assert_eq!(features & F_BLK_RO, 0, "it can be written");
    assert_ne!(features & F_BLK_FLUSH, 0);
    let config = a.config(60, 1);
    assert_eq!(sectors(&config), DISK / 512);
    activate(&mut a, features);
    for number in 0..DISK / 4096 {
        assert_eq!(write(&mut a, number, &block(7, number)), OK);
    }
    assert_eq!(flush(&mut a), OK);
    for number in 0..DISK / 4096 {
        assert_eq!(read(&mut a, number), (OK, block(7, number)));
    }
    assert!(id(&mut a).starts_with(b"a\0"));
    assert_eq!(sectors(&a.config(60, 1)), DISK / 512, "read again");
}

/// Firecracker ends with its guest. The next one finds the disk as it was.
#[test]
fn another_machine_of_the_same_name_finds_the_disk_as_it_was_left() {
    let daemon = Daemon::start_with_disk("");
    for round in 0..3 {
        let (mut a, features) = connect(&daemon.socket("a"), memory());
        activate(&mut a, features);
        if round > 0 {
            assert_eq!(read(&mut a, 5), (OK, block(round, 5)));
        }
        assert_eq!(write(&mut a, 5, &block(round + 1, 5)), OK);
        assert_eq!(read(&mut a, 6), (OK, vec![0; 4096]));
    }
}
