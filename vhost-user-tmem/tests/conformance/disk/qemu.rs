// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! As QEMU's vhost-user-blk: as many queues as it was told, memory slots, answers that are
//! asked for, configuration that is written, queues that are stopped when the guest resets
//! the device, and connections anew. It asks for inflight memory only if that is offered.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::requests::{OK, block, discard, read, write};
use super::{DISK, MEMORY, memory};
use crate::daemon::Daemon;
use crate::front_end::{
    ADD_MEM_REG, AVAILABLE, F_PROTOCOL, F_VERSION_1, FrontEnd, GET_FEATURES, GET_MAX_MEM_SLOTS,
    GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_VRING_BASE, GUEST, SET_CONFIG, SET_FEATURES,
    SET_OWNER, SET_PROTOCOL_FEATURES, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL,
    SET_VRING_ENABLE, SET_VRING_KICK, SET_VRING_NUM, TABLE, USED, USER, pair, words,
};

const F_INDIRECT: u64 = 1 << 28;
const F_EVENT_IDX: u64 = 1 << 29;
const F_LOG_ALL: u64 = 1 << 26;
const F_BLK_MQ: u64 = 1 << 12;
const F_BLK_CONFIG_WCE: u64 = 1 << 11;
const F_BLK_DISCARD: u64 = 1 << 13;
const P_MQ: u64 = 1 << 0;
const P_LOG_SHMFD: u64 = 1 << 1;
const P_REPLY_ACK: u64 = 1 << 3;
const P_CONFIG: u64 = 1 << 9;
const P_INFLIGHT: u64 = 1 << 12;
const P_MEM_SLOTS: u64 = 1 << 15;

/// Where the parts of each queue begin.
const PARTS: [u64; 2] = [0, 0x8_0000];

/// Where the writeback field of the configuration space is.
const WRITEBACK: u32 = 32;

/// The machine's disk when QEMU starts, or connects anew.
pub(super) fn connect(path: &Path, memory: File) -> FrontEnd {
    let mut a = FrontEnd::silent(path, memory);
    a.send(GET_FEATURES, 1, &[], &[]);
    let features = a.receive().unwrap();
    assert_ne!(features & F_PROTOCOL, 0);
    let wanted = F_BLK_MQ | F_BLK_CONFIG_WCE | F_BLK_DISCARD | F_INDIRECT | F_EVENT_IDX;
    assert_eq!(features & wanted, wanted);
    a.send(GET_PROTOCOL_FEATURES, 1, &[], &[]);
    let offered = a.receive().unwrap();
    // Without both, QEMU refuses to migrate or save the machine.
    assert_eq!((features & F_LOG_ALL, offered & P_LOG_SHMFD), (0, 0));
    // Without this, it asks for no inflight memory.
    assert_eq!(offered & P_INFLIGHT, 0);
    a.protocol = offered & (P_MQ | P_REPLY_ACK | P_CONFIG | P_MEM_SLOTS);
    let protocol = a.protocol;
    a.send(SET_PROTOCOL_FEATURES, 1, &words(&[protocol]), &[]);
    a.send(GET_QUEUE_NUM, 1, &[], &[]);
    assert_eq!(a.receive(), Some(2), "queues");
    a.send(GET_MAX_MEM_SLOTS, 1, &[], &[]);
    assert!(a.receive().unwrap() > 8);
    a.send(SET_OWNER, 1, &[], &[]);
    a.send(GET_FEATURES, 1, &[], &[]);
    a.receive().unwrap();
    let call = a.call_event();
    for queue in 0..2 {
        a.send(SET_VRING_CALL, 1, &words(&[queue]), &[call.as_fd()]);
    }
    a
}

/// The guest's driver is ready, or QEMU has connected anew: queues go on where `base` says.
fn start(a: &mut FrontEnd, base: [u16; 2]) {
    let features =
        F_VERSION_1 | F_PROTOCOL | F_INDIRECT | F_BLK_MQ | F_BLK_CONFIG_WCE | F_BLK_DISCARD;
    // Once for inflight memory, whether there is some or not, and once to start.
    for _ in 0..2 {
        a.send(SET_FEATURES, 1, &words(&[features]), &[]);
    }
    let memory = a.memory.try_clone().unwrap();
    let region = words(&[0, GUEST, MEMORY, USER, 0]);
    assert_eq!(a.ask(ADD_MEM_REG, &region, &[memory.as_fd()]), Some(0));
    let call = a.call_event();
    for (queue, (parts, base)) in (0..).zip(PARTS.into_iter().zip(base)) {
        a.turn_to(queue, parts);
        let kick = a.kick_event();
        a.send(SET_VRING_NUM, 1, &pair(queue, 256), &[]);
        a.send(SET_VRING_BASE, 1, &pair(queue, base.into()), &[]);
        let mut address = pair(queue, 0);
        let places = [TABLE, USED, AVAILABLE].map(|part| USER + parts + part);
        address.extend(words(&[places[0], places[1], places[2], 0]));
        assert_eq!(a.ask(SET_VRING_ADDR, &address, &[]), Some(0));
        let number = words(&[queue.into()]);
        a.send(SET_VRING_KICK, 1, &number, &[kick.as_fd()]);
    }
    for queue in 0..2 {
        a.send(SET_VRING_ENABLE, 1, &pair(queue, 1), &[]);
    }
    for queue in 0..2 {
        a.send(SET_VRING_CALL, 1, &words(&[queue]), &[call.as_fd()]);
    }
    a.turn_to(0, PARTS[0]);
}

/// The guest has reset the device: where each queue was.
fn stop(a: &mut FrontEnd) -> [u64; 2] {
    for queue in 0..2 {
        a.send(SET_VRING_ENABLE, 1, &pair(queue, 0), &[]);
    }
    [0, 1].map(|queue| {
        a.send(GET_VRING_BASE, 1, &pair(queue, 0), &[]);
        a.receive().unwrap() >> 32
    })
}

fn used(a: &FrontEnd) -> [u16; 2] {
    PARTS.map(|parts| a.used_index(parts + USED))
}

#[test]
fn both_queues_have_the_same_blocks() {
    let daemon = Daemon::start_with_disk("");
    let mut a = connect(&daemon.socket("a"), memory());
    let config = a.config(60, 0);
    assert_eq!(config[..8], (DISK / 512).to_le_bytes());
    start(&mut a, [0, 0]);
    for queue in [0, 1] {
        a.turn_to(queue, PARTS[queue as usize]);
        assert_eq!(write(&mut a, u64::from(queue), &block(3, queue.into())), OK);
    }
    for number in [0, 1] {
        assert_eq!(read(&mut a, number), (OK, block(3, number)));
    }
    assert_eq!(discard(&mut a, 1), OK);
    a.turn_to(0, PARTS[0]);
    assert_eq!(read(&mut a, 1), (OK, vec![0; 4096]));
}

#[test]
fn the_write_cache_can_be_chosen() {
    let daemon = Daemon::start_with_disk("");
    let mut a = connect(&daemon.socket("a"), memory());
    start(&mut a, [0, 0]);
    for wanted in [1, 0, 1] {
        let mut message = pair(WRITEBACK, 1);
        message.extend(0u32.to_le_bytes());
        message.push(wanted);
        assert_eq!(a.ask(SET_CONFIG, &message, &[]), Some(0));
        assert_eq!(a.config(60, 0)[32], wanted);
    }
}

#[test]
fn a_guest_that_resets_the_device_finds_the_disk_as_it_was() {
    let daemon = Daemon::start_with_disk("");
    let mut a = connect(&daemon.socket("a"), memory());
    for round in 0..4 {
        start(&mut a, [0, 0]);
        if round > 0 {
            assert_eq!(read(&mut a, 9), (OK, block(round, 9)));
        }
        // Firmware uses the first queue alone.
        a.turn_to(0, PARTS[0]);
        assert_eq!(write(&mut a, 9, &block(round + 1, 9)), OK);
        if round % 2 == 1 {
            a.turn_to(1, PARTS[1]);
            assert_eq!(read(&mut a, 9), (OK, block(round + 1, 9)));
        }
        let bases = stop(&mut a);
        assert_eq!(bases, used(&a).map(u64::from), "all is answered");
        // The next driver's rings are empty.
        for parts in PARTS {
            a.write(parts + AVAILABLE, &[0; 4]);
            a.write(parts + USED, &[0; 4]);
        }
        let memory = words(&[0, GUEST, MEMORY, USER, 0]);
        assert_eq!(a.ask(crate::front_end::REM_MEM_REG, &memory, &[]), Some(0));
    }
}

/// QEMU goes on at the used index of each queue.
#[test]
fn a_connection_that_ended_goes_on_with_what_was_asked_meanwhile() {
    let daemon = Daemon::start_with_disk("");
    let memory = memory();
    let mut a = connect(&daemon.socket("a"), memory.try_clone().unwrap());
    start(&mut a, [0, 0]);
    for round in 0..5 {
        assert_eq!(write(&mut a, round, &block(1, round)), OK);
        drop(a);
        a = connect(&daemon.socket("a"), memory.try_clone().unwrap());
        let base = used(&a);
        a.turn_to(0, PARTS[0]);
        super::requests::offer_write(&mut a, 100 + round, &block(2, round));
        start(&mut a, base);
        a.kick();
        crate::request::wait(&a);
        assert_eq!(read(&mut a, round), (OK, block(1, round)));
        assert_eq!(read(&mut a, 100 + round), (OK, block(2, round)));
    }
}
