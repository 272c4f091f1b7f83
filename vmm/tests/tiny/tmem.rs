// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest's program that puts pages and gets them back.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use virtio_bindings::bindings::virtio_mmio as register;
use virtio_tmem::testing::{header, page_of, request};
use virtio_tmem::wire::{
    AnswerHeader, Config, DEVICE_ID, Event, EventKind, Hints, MemoryRange, Op, PAGE_SIZE, PoolKind,
    PoolSpec, Status,
};

use crate::api::{ask, request as request_to};
use crate::asm::{If, Reg, Width};
use crate::daemon::Host;
use crate::guest::Guest;
use crate::virtio::{Device, Queue};
use crate::vmm::{PATIENCE, Vmm, can_run, run};

/// Not one that a guest has made by misuse.
const POOL: u32 = 21;

const OBJECT: [u8; 24] = [9; 24];
const INDEX: u64 = 1 << 40;

/// An answer with this many pages, and the pages' statuses.
pub(crate) fn answer(status: Status, pages: u64, statuses: &[Status]) -> Vec<u8> {
    let header = AnswerHeader {
        status,
        hints: Hints::default(),
        pages,
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend(statuses.iter().map(|status| status.0));
    bytes
}

/// A request for one page, or none.
pub(crate) fn ask_for(op: Op, count: u32, payload: &[u8]) -> Vec<u8> {
    request(&header(op, POOL, &OBJECT, INDEX, count), &[payload])
}

/// Where the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    InProcess,
    /// It writes to the interrupt line itself.
    Daemon,
}

/// A page of the guest's memory that it does not use.
const UNUSED: MemoryRange = MemoryRange {
    address: 7 << 20,
    bytes: PAGE_SIZE as u64,
};

/// The program: puts a page, gets it back, flushes it, gets nothing; then it gives memory
/// back.
pub(crate) fn use_store(guest: &mut Guest, device: Device, store: Store) {
    device.negotiate(guest, DEVICE_ID);
    guest.read(Width::Four, device.at(register::VIRTIO_MMIO_CONFIG));
    guest.expect("the device's magic", Config::MAGIC.into());
    let mut queue = Queue::new(guest, 1);
    device.enable(guest, &queue);
    device.run(guest);
    let spec = PoolSpec::own(PoolKind::Persistent);
    let page = page_of(7);
    let ok = |pages, statuses: &[Status]| answer(Status::OK, pages, statuses);
    let found = [ok(1, &[Status::OK]), page.to_vec()].concat();
    let room = AnswerHeader::SIZE + 1 + PAGE_SIZE;
    for (what, op, count, payload, room, expected) in [
        (
            "create",
            Op::CreatePool,
            0,
            &spec.encode()[..],
            16,
            ok(0, &[]),
        ),
        ("put", Op::Put, 1, &page, 17, ok(1, &[Status::OK])),
        ("get", Op::Get, 1, &[], room, found),
        ("flush", Op::Flush, 1, &[], 16, ok(1, &[])),
        ("miss", Op::Get, 1, &[], room, ok(0, &[Status::MISS])),
        ("destroy", Op::DestroyPool, 0, &[], 16, ok(0, &[])),
        (
            "relinquish",
            Op::Relinquish,
            1,
            &UNUSED.encode()[..],
            17,
            ok(1, &[Status::OK]),
        ),
    ] {
        let answer = queue.add(guest, &[&ask_for(op, count, payload)], room);
        device.request(guest, &mut queue);
        device.wait(guest, &queue);
        guest.expect_bytes(what, answer, &expected);
        if store == Store::InProcess {
            device.interrupt(guest);
        }
    }
}

#[test]
fn pages_are_put_and_got_back() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    // The random number device is the first.
    use_store(&mut guest, Device(1), Store::InProcess);
    guest.print("all there\n");
    guest.power_off();
    for serve in ["vcpu", "thread"] {
        let tmem = format!("quota=16M,serve={serve}");
        let ended = run(&guest, &["--tmem", &tmem]);
        assert_eq!(ended.out, "all there\n", "{ended:?}");
        ended.silently(0);
    }
}

#[test]
fn the_guest_hears_of_another_quota() {
    if !can_run() {
        return;
    }
    let device = Device(1);
    let mut guest = Guest::new();
    device.negotiate(&mut guest, DEVICE_ID);
    let mut events = Queue::new(&mut guest, 0);
    device.enable(&mut guest, &events);
    device.run(&mut guest);
    let event = events.add(&mut guest, &[], Event::SIZE);
    device.request(&mut guest, &mut events);
    guest.print("listening\n");
    device.wait(&mut guest, &events);
    let kind = EventKind::Limits as u32;
    guest.expect_bytes("event", event, &Event { kind }.encode());
    device.interrupt(&mut guest);
    guest.print("heard\n");
    guest.power_off();
    for serve in ["vcpu", "thread"] {
        let tmem = format!("quota=16M,serve={serve}");
        let mut vmm = Vmm::start(&guest, &["--tmem", &tmem]);
        vmm.see("listening\n");
        ask(
            &vmm.api(),
            "PATCH",
            "/v1/vms/guest",
            r#"{"quota": 8388608}"#,
        );
        let ended = vmm.end();
        assert_eq!(ended.out, "heard\n", "{ended:?}");
        ended.silently(0);
    }
}

#[test]
fn a_daemon_may_come_later() {
    if !can_run() {
        return;
    }
    let device = Device(1);
    let mut guest = Guest::new();
    guest.print("alone\n");
    // A reset shows who is there now: nobody has an instance of zeros.
    let again = guest.code.here();
    device.write(&mut guest, register::VIRTIO_MMIO_STATUS, 0);
    let instance = device.at(register::VIRTIO_MMIO_CONFIG) + 16;
    guest.read(Width::Eight, instance);
    guest.code.compare(Reg::Rax, 0);
    guest.code.jump_if(If::Equal, again);
    use_store(&mut guest, device, Store::Daemon);
    guest.print("all there\n");
    guest.power_off();
    let host = Host::new();
    let socket = format!("socket={}", host.socket().display());
    let mut vmm = Vmm::start(&guest, &["--tmem", &socket]);
    vmm.see("alone\n");
    assert_eq!(ask(&vmm.api(), "GET", "/v1/vm", "")["tmem"], "daemon");
    let (status, answer) = request_to(&vmm.api(), "POST", "/v1/vms", r#"{"name": "web1"}"#);
    assert_eq!(status, 409);
    assert!(answer.contains("the daemon has"), "{answer}");
    let _daemon = host.serve(&host.pools(2));
    let ended = vmm.end();
    assert_eq!(ended.out, "all there\n", "{ended:?}");
    ended.silently(0);
}

#[test]
fn a_daemon_may_stay_away() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    guest.print("alone\n");
    guest.halt();
    let mut vmm = Vmm::start(&guest, &["--tmem", "socket=/nowhere/at/all"]);
    vmm.see("alone\n");
    vmm.signal(Signal::TERM);
    vmm.end().silently(0);
}

#[test]
fn a_socket_of_another_device_is_said_to_be_one() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    guest.print("alone\n");
    guest.halt();
    for (option, other, is, way_out) in [
        ("--tmem", "--tmem-swap", "a plain disk", "personality=tmem"),
        ("--tmem-swap", "--tmem", "virtio-tmem", "personality=blk"),
    ] {
        let host = Host::new();
        let pools = match option {
            "--tmem" => host.disk(64 << 20, 2),
            _ => host.pools(2),
        };
        let _daemon = host.serve(&pools);
        let socket = format!("socket={}", host.socket().display());
        let mut vmm = Vmm::start(&guest, &[option, &socket]);
        vmm.see("alone\n");
        // It is said before it is tried again.
        let began = Instant::now();
        while pools.connections() < 2 {
            assert!(began.elapsed() < PATIENCE, "it is not tried");
            std::thread::sleep(Duration::from_millis(1));
        }
        vmm.signal(Signal::TERM);
        let ended = vmm.end();
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        assert_eq!(ended.said.lines().count(), 1, "{ended:?}");
        let serves = format!("it serves {is} there");
        let belongs = format!("give its socket to {other},");
        for words in [&*serves, &belongs, way_out] {
            assert!(ended.said.contains(words), "{words}: {ended:?}");
        }
    }
}
