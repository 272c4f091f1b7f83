// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! As Cloud Hypervisor's `--disk vhost_user=on`: answers to everything, a memory table, and
//! queues that go on at the available index when it connects anew.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::requests::{OK, block, offer_write, read, write};
use super::{MEMORY, memory};
use crate::daemon::Daemon;
use crate::front_end::{
    AVAILABLE, F_PROTOCOL, F_VERSION_1, FrontEnd, GET_FEATURES, GET_PROTOCOL_FEATURES,
    GET_QUEUE_NUM, SET_FEATURES, SET_OWNER, SET_PROTOCOL_FEATURES, SET_VRING_ADDR, SET_VRING_BASE,
    SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_KICK, SET_VRING_NUM, TABLE, USED, USER, pair,
    words,
};

const P_MQ: u64 = 1 << 0;
const P_REPLY_ACK: u64 = 1 << 3;
const P_CONFIG: u64 = 1 << 9;
const F_BLK_FLUSH: u64 = 1 << 9;

fn connect(path: &Path, memory: File) -> FrontEnd {
    let mut a = FrontEnd::silent(path, memory);
    a.send(SET_OWNER, 1, &[], &[]);
    a.send(GET_FEATURES, 1, &[], &[]);
    a.receive().unwrap();
    a.send(GET_PROTOCOL_FEATURES, 1, &[], &[]);
    let offered = a.receive().unwrap();
    let protocol = offered & (P_MQ | P_REPLY_ACK | P_CONFIG);
    a.send(SET_PROTOCOL_FEATURES, 1, &words(&[protocol]), &[]);
    a.send(GET_QUEUE_NUM, 1, &[], &[]);
    assert!(a.receive().unwrap() >= 1);
    assert_eq!(a.config(60, 1).len(), 60);
    a
}

/// The first time, and when it has connected anew.
fn set_up(a: &mut FrontEnd) {
    let features = words(&[F_VERSION_1 | F_PROTOCOL | F_BLK_FLUSH]);
    assert_eq!(a.ask(SET_FEATURES, &features, &[]), Some(0));
    assert_eq!(a.share_memory(MEMORY), Some(0));
    assert_eq!(a.ask(SET_VRING_NUM, &pair(0, 256), &[]), Some(0));
    let mut address = pair(0, 0);
    address.extend(words(&[USER + TABLE, USER + USED, USER + AVAILABLE, 0]));
    assert_eq!(a.ask(SET_VRING_ADDR, &address, &[]), Some(0));
    let available = a.used_index(AVAILABLE);
    let base = pair(0, available.into());
    assert_eq!(a.ask(SET_VRING_BASE, &base, &[]), Some(0));
    let (call, kick) = (a.call_event(), a.kick_event());
    for (request, event) in [(SET_VRING_CALL, call), (SET_VRING_KICK, kick)] {
        assert_eq!(a.ask(request, &words(&[0]), &[event.as_fd()]), Some(0));
    }
    assert_eq!(a.ask(SET_VRING_ENABLE, &pair(0, 1), &[]), Some(0));
}

#[test]
fn what_was_under_way_is_done_when_it_connects_anew() {
    let daemon = Daemon::start_with_disk("");
    let memory = memory();
    let mut a = connect(&daemon.socket("a"), memory.try_clone().unwrap());
    set_up(&mut a);
    for round in 0..5 {
        assert_eq!(write(&mut a, round, &block(1, round)), OK);
        drop(a);
        a = connect(&daemon.socket("a"), memory.try_clone().unwrap());
        a.turn_to(0, 0);
        offer_write(&mut a, 100 + round, &block(2, round));
        set_up(&mut a);
        a.kick();
        crate::request::wait(&a);
        assert_eq!(read(&mut a, 100 + round), (OK, block(2, round)));
    }
}

/// It only disables the queue, and sets it up again for the next driver.
#[test]
fn a_guest_that_resets_the_device_finds_the_disk_as_it_was() {
    let daemon = Daemon::start_with_disk("");
    let mut a = connect(&daemon.socket("a"), memory());
    for round in 0..4 {
        set_up(&mut a);
        if round > 0 {
            assert_eq!(read(&mut a, 9), (OK, block(round, 9)));
        }
        assert_eq!(read(&mut a, 10), (OK, vec![0; 4096]));
        assert_eq!(write(&mut a, 9, &block(round + 1, 9)), OK);
        assert_eq!(a.ask(SET_VRING_ENABLE, &pair(0, 0), &[]), Some(0));
        // The next driver's rings are empty.
        for ring in [AVAILABLE, USED] {
            a.write(ring, &[0; 4]);
        }
        a.turn_to(0, 0);
    }
}
