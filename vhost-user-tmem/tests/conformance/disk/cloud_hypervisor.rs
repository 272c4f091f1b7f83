// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! As Cloud Hypervisor's `--disk vhost_user=on`: answers to everything, a memory table, and
//! queues that go on at the available index when it connects anew. Compared with what version
//! 53.0 sends.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::requests::{OK, block, offer_write, read, write};
use super::{MEMORY, memory};
use crate::daemon::Daemon;
use crate::front_end::{
    AVAILABLE, F_PROTOCOL, F_VERSION_1, FrontEnd, GET_CONFIG, GET_FEATURES, GET_PROTOCOL_FEATURES,
    GET_QUEUE_NUM, GET_VRING_BASE, SET_DEVICE_STATE_FD, SET_FEATURES, SET_OWNER,
    SET_PROTOCOL_FEATURES, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE,
    SET_VRING_KICK, SET_VRING_NUM, TABLE, USED, USER, pair, words,
};

/// Bytes of its disks' configuration space.
const CONFIG: u32 = 60;

const P_MQ: u64 = 1 << 0;
const P_LOG_SHMFD: u64 = 1 << 1;
const P_REPLY_ACK: u64 = 1 << 3;
const P_CONFIG: u64 = 1 << 9;
const P_INFLIGHT_SHMFD: u64 = 1 << 12;
const P_CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
const P_DEVICE_STATE: u64 = 1 << 19;

/// Of the protocol, what it makes use of.
const PROTOCOL: u64 = P_MQ
    | P_LOG_SHMFD
    | P_REPLY_ACK
    | P_CONFIG
    | P_INFLIGHT_SHMFD
    | P_CONFIGURE_MEM_SLOTS
    | P_DEVICE_STATE;

const F_BLK_FLUSH: u64 = 1 << 9;
const F_INDIRECT_DESC: u64 = 1 << 28;
const F_EVENT_IDX: u64 = 1 << 29;
const F_IN_ORDER: u64 = 1 << 35;

/// Header of each message once REPLY_ACK is there, also of those that have an answer anyway.
const NEEDS_REPLY: u32 = 1 | 8;

/// A queue's index in the ring from which it goes on.
#[derive(Clone, Copy, Debug)]
enum Base {
    /// Up to version 53.
    Available,
    /// Later, if the driver has IN_ORDER.
    Used,
}

/// Asks what has an answer; gives back all of it.
fn get(a: &mut FrontEnd, request: u32, payload: &[u8]) -> Vec<u8> {
    a.send(request, NEEDS_REPLY, payload, &[]);
    a.receive_payload().unwrap()
}

/// The protocol's features that it has.
fn connect(path: &Path, memory: File) -> (FrontEnd, u64) {
    let mut a = FrontEnd::silent(path, memory);
    a.send(SET_OWNER, 1, &[], &[]);
    a.send(GET_FEATURES, 1, &[], &[]);
    a.receive().unwrap();
    a.send(GET_PROTOCOL_FEATURES, 1, &[], &[]);
    let protocol = a.receive().unwrap() & PROTOCOL;
    a.send(SET_PROTOCOL_FEATURES, 1, &words(&[protocol]), &[]);
    let queues = get(&mut a, GET_QUEUE_NUM, &[]);
    assert!(u64::from_le_bytes(queues.try_into().unwrap()) >= 1);
    let mut wanted = [pair(0, CONFIG), 1u32.to_le_bytes().to_vec()].concat();
    wanted.resize(wanted.len() + CONFIG as usize, 0);
    assert_eq!(get(&mut a, GET_CONFIG, &wanted).len(), 12 + CONFIG as usize);
    (a, protocol)
}

/// It knows already what there is.
fn connect_anew(path: &Path, memory: File, protocol: u64) -> FrontEnd {
    let mut a = FrontEnd::silent(path, memory);
    a.send(SET_OWNER, 1, &[], &[]);
    a.send(GET_FEATURES, 1, &[], &[]);
    a.receive().unwrap();
    a.send(SET_PROTOCOL_FEATURES, 1, &words(&[protocol]), &[]);
    a
}

/// The first time, and when it has connected anew.
fn set_up(a: &mut FrontEnd, base: Base) {
    let features =
        F_VERSION_1 | F_PROTOCOL | F_BLK_FLUSH | F_INDIRECT_DESC | F_EVENT_IDX | F_IN_ORDER;
    assert_eq!(a.ask(SET_FEATURES, &words(&[features]), &[]), Some(0));
    assert_eq!(a.share_memory(MEMORY), Some(0));
    assert_eq!(a.ask(SET_VRING_NUM, &pair(0, 256), &[]), Some(0));
    let mut address = pair(0, 0);
    address.extend(words(&[USER + TABLE, USER + USED, USER + AVAILABLE, 0]));
    assert_eq!(a.ask(SET_VRING_ADDR, &address, &[]), Some(0));
    let index = a.used_index(match base {
        Base::Available => AVAILABLE,
        Base::Used => USED,
    });
    assert_eq!(a.ask(SET_VRING_BASE, &pair(0, index.into()), &[]), Some(0));
    let (call, kick) = (a.call_event(), a.kick_event());
    for (request, event) in [(SET_VRING_CALL, call), (SET_VRING_KICK, kick)] {
        assert_eq!(a.ask(request, &words(&[0]), &[event.as_fd()]), Some(0));
    }
    assert_eq!(a.ask(SET_VRING_ENABLE, &pair(0, 1), &[]), Some(0));
}

/// The guest resets the device, or it is to be saved.
fn reset(a: &mut FrontEnd) {
    assert_eq!(a.ask(SET_VRING_ENABLE, &pair(0, 0), &[]), Some(0));
    assert_eq!(get(a, GET_VRING_BASE, &pair(0, 0)).len(), 8);
}

#[test]
fn what_was_under_way_is_done_when_it_connects_anew() {
    let daemon = Daemon::start_with_disk("");
    let memory = memory();
    let (mut a, protocol) = connect(&daemon.socket("a"), memory.try_clone().unwrap());
    set_up(&mut a, Base::Available);
    for round in 0..6 {
        assert_eq!(write(&mut a, round, &block(1, round)), OK);
        drop(a);
        let memory = memory.try_clone().unwrap();
        a = connect_anew(&daemon.socket("a"), memory, protocol);
        a.turn_to(0, 0);
        offer_write(&mut a, 100 + round, &block(2, round));
        set_up(
            &mut a,
            if round % 2 == 0 {
                Base::Available
            } else {
                Base::Used
            },
        );
        a.kick();
        crate::request::wait(&a);
        assert_eq!(read(&mut a, 100 + round), (OK, block(2, round)));
    }
}

#[test]
fn a_guest_that_resets_the_device_finds_the_disk_as_it_was() {
    let daemon = Daemon::start_with_disk("");
    let (mut a, _) = connect(&daemon.socket("a"), memory());
    for round in 0..4 {
        set_up(&mut a, Base::Available);
        if round > 0 {
            assert_eq!(read(&mut a, 9), (OK, block(round, 9)));
        }
        assert_eq!(read(&mut a, 10), (OK, vec![0; 4096]));
        assert_eq!(write(&mut a, 9, &block(round + 1, 9)), OK);
        reset(&mut a);
        // The next driver's rings are empty.
        for ring in [AVAILABLE, USED] {
            a.write(ring, &[0; 4]);
        }
        a.turn_to(0, 0);
    }
}

/// It stops the queues before it asks for the state of a paused machine, and starts them again
/// only when it connects anew.
#[test]
fn a_guest_goes_on_after_a_snapshot_that_was_refused() {
    let daemon = Daemon::start_with_disk("");
    let memory = memory();
    let (mut a, protocol) = connect(&daemon.socket("a"), memory.try_clone().unwrap());
    set_up(&mut a, Base::Available);
    assert_eq!(write(&mut a, 3, &block(1, 3)), OK);
    reset(&mut a);
    let file = tempfile::tempfile().unwrap();
    a.send(
        SET_DEVICE_STATE_FD,
        NEEDS_REPLY,
        &pair(0, 0),
        &[file.as_fd()],
    );
    assert_ne!(a.receive().unwrap() & 0xff, 0);
    assert_eq!(a.receive(), None);
    assert!(!a.is_connected());
    a = connect_anew(&daemon.socket("a"), memory, protocol);
    a.turn_to(0, 0);
    set_up(&mut a, Base::Available);
    assert_eq!(read(&mut a, 3), (OK, block(1, 3)));
}
