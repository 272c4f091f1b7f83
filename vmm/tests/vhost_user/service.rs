// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The real daemon as the peer: it comes, goes, and comes back.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use virtio_bindings::bindings::virtio_mmio as register;
use virtio_tmem::testing::{Answer, Layout, Span, Transport, header, page_of, request};
use virtio_tmem::wire::{AnswerHeader, Event, EventKind, Op, PoolKind, Status};
use vm_memory::{Bytes, GuestAddress};

use crate::daemon::Host;
use crate::guest::{Guest, GuestDriver, PATIENCE, until};

const OBJECT: [u8; 24] = [3; 24];
const NOBODY: [u8; 16] = [0; 16];

/// Puts pages and gets them back.
fn swap(driver: &mut GuestDriver<'_>, seed: u64) {
    let pages: Vec<_> = (seed..seed + 64).map(page_of).collect();
    let put = driver.put(0, &OBJECT, seed, &pages);
    assert!(put.pages(64).iter().all(|status| status.is_ok()));
    expect(driver, seed);
}

/// Gets what [`swap`] put.
fn expect(driver: &mut GuestDriver<'_>, seed: u64) {
    let got = driver.get(0, &OBJECT, seed, 64);
    for nth in 0..64 {
        assert_eq!(got.page(64, nth), page_of(seed + u64::from(nth)));
    }
}

#[test]
fn what_is_put_is_got_on_any_queue() {
    let host = Host::new();
    let pools = host.pools(4);
    let _daemon = host.serve(&pools);
    let guest = Guest::new(&host.socket(), 2);
    guest.until_connected(1);
    assert_eq!(guest.read(register::VIRTIO_MMIO_DEVICE_ID), 60);
    let config = guest.config();
    assert_eq!(config.instance, pools.device().instance());
    assert_eq!(config.request_queues, 2, "as many as were asked for");
    let mut queues = guest.start();
    let mut second = guest.driver(queues.remove(2), &guest.memory, 2);
    let mut first = guest.driver(queues.remove(1), &guest.memory, 1);

    assert_eq!(first.create_pool(0, PoolKind::Persistent), Status::OK);
    assert_eq!(second.create_pool(0, PoolKind::Persistent), Status::EXISTS);
    swap(&mut first, 1000);
    expect(&mut second, 1000);
    swap(&mut second, 2000);
    expect(&mut first, 2000);

    assert!(!guest.needs_reset());
    let metrics = guest.counters.metrics();
    let metrics: Vec<_> = metrics.iter().map(|it| (it.name, it.value)).collect();
    let expected = [("connected", 1), ("connections", 1), ("resets_asked", 0)];
    assert_eq!(metrics, expected);
}

#[test]
fn a_guest_that_is_reset_finds_its_pages_again() {
    let host = Host::new();
    let pools = host.pools(2);
    let _daemon = host.serve(&pools);
    let guest = Guest::new(&host.socket(), 2);
    guest.until_connected(1);
    let instance = guest.config().instance;
    for round in 0..10 {
        let mut driver = guest.first_driver();
        let made = driver.create_pool(0, PoolKind::Persistent);
        let first = round == 0;
        assert_eq!(made, if first { Status::OK } else { Status::EXISTS });
        if !first {
            expect(&mut driver, 500);
        }
        swap(&mut driver, 500);
        guest.reset();
        assert_eq!(guest.config().instance, instance);
        guest.reset();
    }
    assert_eq!(guest.counters.connections(), 1, "one connection for all");
}

#[test]
fn a_daemon_that_comes_after_the_driver_has_it_reset_the_device() {
    let host = Host::new();
    let guest = Guest::new(&host.socket(), 2);
    let placeholder = guest.config();
    assert!(placeholder.is_supported());
    assert_eq!(placeholder.instance, NOBODY);
    assert_eq!(placeholder.request_queues, 2);
    let mut queues = guest.start();
    // As a driver does that tries to begin.
    let span = |addr, len| Span { addr, len };
    let (asked, room) = (8 << 20, 9 << 20);
    let bytes = request(&header(Op::GetLimits, 0, &OBJECT, 0, 0), &[]);
    guest
        .memory
        .write_slice(&bytes, GuestAddress(asked))
        .unwrap();
    queues[1]
        .add(&[span(asked, 48)], &[span(room, 256)])
        .unwrap();
    guest.bell(1).kick();

    let pools = host.pools(1);
    let _daemon = host.serve(&pools);
    guest.expect_needs_reset();
    assert_eq!(guest.config(), placeholder, "until it is reset");
    assert_eq!(queues[1].used_idx(), 0, "nothing is served before");
    assert_eq!(guest.counters.resets_asked(), 1);
    drop(queues);

    guest.reset();
    assert!(!guest.needs_reset());
    let config = guest.config();
    assert_eq!(config.instance, pools.device().instance());
    assert_eq!(config.request_queues, 1, "as many as the daemon has");
    let mut driver = guest.first_driver();
    assert_eq!(driver.create_pool(0, PoolKind::Persistent), Status::OK);
    swap(&mut driver, 0);
    assert_eq!(guest.counters.resets_asked(), 1);
}

#[test]
fn a_driver_that_looked_before_the_daemon_came_is_asked_when_it_is_ready() {
    let host = Host::new();
    let guest = Guest::new(&host.socket(), 2);
    assert_eq!(guest.config().instance, NOBODY);
    let pools = host.pools(2);
    let _daemon = host.serve(&pools);
    guest.until_connected(1);
    assert_eq!(guest.config().instance, NOBODY);
    let queues = guest.start();
    guest.expect_needs_reset();
    drop(queues);
    guest.reset();
    assert_eq!(guest.config().instance, pools.device().instance());
}

#[test]
fn requests_outstanding_when_the_daemon_is_lost_are_done_when_it_is_back() {
    let host = Host::new();
    let pools = host.pools(2);
    let daemon = host.serve(&pools);
    let guest = Guest::new(&host.socket(), 2);
    guest.until_connected(1);
    let mut driver = guest.first_driver();
    driver.create_pool(0, PoolKind::Persistent);
    swap(&mut driver, 0);
    drop(daemon);
    guest.until_lost();
    // The line is quiet.
    while guest.is_interrupted_within(Duration::ZERO) {}

    // A put and a get of the same page, and a get of an older one.
    let (area, answers) = (16 << 20, 24 << 20);
    let span = |addr, len| Span { addr, len };
    let put = request(&header(Op::Put, 0, &OBJECT, 77_777, 1), &[&page_of(5)]);
    let get = request(&header(Op::Get, 0, &OBJECT, 77_777, 1), &[]);
    let old = request(&header(Op::Get, 0, &OBJECT, 9, 1), &[]);
    for (nth, bytes) in (0..).zip([&put, &get, &old]) {
        let (from, to) = (area + nth * 0x10000, answers + nth * 0x10000);
        guest.memory.write_slice(bytes, GuestAddress(from)).unwrap();
        let untouched = [Answer::UNTOUCHED; 8192];
        guest
            .memory
            .write_slice(&untouched, GuestAddress(to))
            .unwrap();
        let readable = [span(from, bytes.len() as u32)];
        driver.queue().add(&readable, &[span(to, 8192)]).unwrap();
    }
    driver.submit();
    assert_eq!(guest.config().instance, pools.device().instance());

    let _daemon = host.serve(&pools);
    for _ in 0..3 {
        while driver.queue().pop_used().is_none() {
            driver.transport().wait();
        }
    }
    let page_at = |nth: u64| {
        let mut page = [0; 4096];
        let at = answers + nth * 0x10000 + AnswerHeader::SIZE as u64 + 1;
        guest
            .memory
            .read_slice(&mut page, GuestAddress(at))
            .unwrap();
        page
    };
    assert_eq!(page_at(1), page_of(5));
    assert_eq!(page_at(2), page_of(9));
    swap(&mut driver, 200);
    assert!(!guest.needs_reset());
    guest.until_connected(2);
    assert_eq!(guest.counters.resets_asked(), 0);
}

#[test]
fn a_driver_hears_of_what_the_lost_daemon_used_without_a_word() {
    let host = Host::new();
    let pools = host.pools(2);
    let daemon = host.serve(&pools);
    let guest = Guest::new(&host.socket(), 1);
    guest.until_connected(1);
    let mut driver = guest.first_driver();
    driver.create_pool(0, PoolKind::Persistent);
    drop(daemon);
    guest.until_lost();
    while guest.is_interrupted_within(Duration::ZERO) {}
    let _daemon = host.serve(&pools);
    assert!(guest.is_interrupted_within(PATIENCE));
    assert!(!guest.needs_reset());
    swap(&mut driver, 0);
}

#[test]
fn a_driver_at_work_does_not_notice_that_the_daemon_restarts() {
    let host = Host::new();
    let pools = host.pools(2);
    let mut daemon = Some(host.serve(&pools));
    let guest = Guest::new(&host.socket(), 2);
    guest.until_connected(1);
    let mut queues = guest.start();
    let mut second = guest.driver(queues.remove(2), &guest.memory, 2);
    let mut first = guest.driver(queues.remove(1), &guest.memory, 1);
    first.create_pool(0, PoolKind::Persistent);
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // One thread: the queues share one interrupt.
        let worker = scope.spawn(|| {
            let mut rounds = 0;
            while !end.load(SeqCst) {
                swap(&mut first, rounds % 50 * 64);
                swap(&mut second, 100_000 + rounds % 50 * 64);
                rounds += 1;
            }
            rounds
        });
        let used = || pools.device().client().stats().puts;
        for round in 2..10 {
            let before = used();
            until("it is at work", || used() > before + 256);
            drop(daemon.take());
            daemon = Some(host.serve(&pools));
            guest.until_connected(round);
        }
        end.store(true, SeqCst);
        assert!(worker.join().unwrap() > 0);
    });
    assert!(!guest.needs_reset());
    for seed in 0..50 {
        let got = first.get_as(0, &OBJECT, seed * 64, 1, false, &Layout::default());
        if got.pages(1) == [Status::OK] {
            assert_eq!(got.page(1, 0), page_of(seed * 64));
        }
    }
}

#[test]
fn a_daemon_with_other_pools_has_the_driver_reset_the_device() {
    let host = Host::new();
    let pools = host.pools(2);
    let daemon = host.serve(&pools);
    let guest = Guest::new(&host.socket(), 2);
    guest.until_connected(1);
    let config = guest.config();
    let mut driver = guest.first_driver();
    driver.create_pool(0, PoolKind::Persistent);
    swap(&mut driver, 0);
    let used = driver.queue().used_idx();
    drop(daemon);
    guest.until_lost();
    // It was told before the daemon was lost.
    while guest.is_interrupted_within(Duration::ZERO) {}

    let other = host.pools(2);
    let daemon = host.serve(&other);
    guest.expect_needs_reset();
    assert_eq!(guest.config(), config, "until it is reset");
    assert_eq!(driver.queue().used_idx(), used);
    // Also when the one with the right pools is back: the driver was told.
    drop(daemon);
    guest.until_lost();
    let daemon = host.serve(&pools);
    guest.until_connected(3);
    assert!(guest.needs_reset());
    drop(daemon);
    guest.until_lost();
    let _daemon = host.serve(&other);
    guest.until_connected(4);

    drop(driver);
    guest.reset();
    let config = guest.config();
    assert_eq!(config.instance, other.device().instance());
    let mut driver = guest.first_driver();
    let nothing = driver.get(0, &OBJECT, 0, 1);
    assert_eq!(nothing.status(), Status::NO_POOL);
    driver.create_pool(0, PoolKind::Persistent);
    swap(&mut driver, 0);
    assert_eq!(guest.counters.resets_asked(), 1);
}

#[test]
fn a_daemon_with_the_pools_but_fewer_queues_has_the_driver_count_again() {
    let host = Host::new();
    let pools = host.pools(4);
    let daemon = host.serve(&pools);
    let guest = Guest::new(&host.socket(), 63);
    guest.until_connected(1);
    assert_eq!(guest.config().request_queues, 4);
    let queues = guest.start();
    assert_eq!(queues.len(), 5);
    drop((queues, daemon));
    guest.until_lost();
    let _daemon = host.serve(&host.pools(1));
    guest.expect_needs_reset();
    guest.reset();
    assert_eq!(guest.config().request_queues, 1);
    let mut driver = guest.first_driver();
    driver.create_pool(0, PoolKind::Ephemeral);
    swap(&mut driver, 0);
}

#[test]
fn an_event_posted_while_the_daemon_is_away_is_filled_when_it_is_back() {
    let host = Host::new();
    let pools = host.pools(1);
    let daemon = host.serve(&pools);
    let guest = Guest::new(&host.socket(), 1);
    guest.until_connected(1);
    let mut events = guest.start().swap_remove(0);
    drop(daemon);
    guest.until_lost();
    let at = 8 << 20;
    let buffer = [Span { addr: at, len: 32 }];
    events.add(&[], &buffer).unwrap();
    guest.bell(0).kick();
    pools
        .device()
        .set_quota(virtio_tmem::device::Quota::Fixed(1 << 20));

    let _daemon = host.serve(&pools);
    while events.pop_used().is_none() {
        guest.bell(0).wait();
    }
    let mut event = [0; Event::SIZE];
    guest
        .memory
        .read_slice(&mut event, GuestAddress(at))
        .unwrap();
    assert_eq!(Event::decode(&event).kind, EventKind::Limits as u32);
}
