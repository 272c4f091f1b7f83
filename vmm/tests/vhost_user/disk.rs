// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A plain disk of the real daemon, which comes, goes, and comes back.

use std::time::Duration;

use tmem_vmm::bus::BusDevice;
use tmem_vmm::virtio::COMMON_FEATURES;
use tmem_vmm::virtio::vhost_user::Kind;
use virtio_bindings::bindings::virtio_mmio as register;
use virtio_blk_tmem::space::FEATURES;
use virtio_tmem::testing::page_of;

use crate::blk::{Blk, IO_ERROR, OK, space};
use crate::daemon::Host;
use crate::guest::{Guest, PATIENCE, until};

/// Bytes of the disk, and its sectors.
const BYTES: u64 = 64 << 20;
const SECTORS: u64 = BYTES / 512;

/// Where a driver says whether it wants a write cache.
const WRITEBACK: u64 = register::VIRTIO_MMIO_CONFIG as u64 + 32;

fn guest(host: &Host, queues: u16) -> Guest {
    Guest::with(Kind::Disk, &host.socket(), queues)
}

/// Waits until the driver hears of another configuration space; its generation then.
fn expect_change(guest: &Guest) -> u32 {
    until("the driver hears of a change", || {
        assert!(guest.is_interrupted_within(PATIENCE), "no interrupt");
        let reasons = guest.read(register::VIRTIO_MMIO_INTERRUPT_STATUS);
        guest.write(register::VIRTIO_MMIO_INTERRUPT_ACK, reasons);
        reasons & register::VIRTIO_MMIO_INT_CONFIG != 0
    });
    assert!(!guest.needs_reset());
    guest.read(register::VIRTIO_MMIO_CONFIG_GENERATION)
}

#[test]
fn blocks_are_what_was_written_on_any_queue() {
    let host = Host::new();
    let pools = host.disk(BYTES, 4);
    let _daemon = host.serve(&pools);
    let guest = guest(&host, 2);
    guest.until_connected(1);
    assert_eq!(guest.read(register::VIRTIO_MMIO_DEVICE_ID), 2);
    assert_eq!(guest.features(), FEATURES | COMMON_FEATURES);
    let shown = space(&guest);
    assert_eq!(shown.capacity, SECTORS);
    assert_eq!(shown.num_queues, 2, "as many as were asked for");
    assert_eq!((shown.blk_size, shown.seg_max), (4096, 126));
    let mut queues = Blk::start(&guest);
    let mut second = queues.remove(1);
    let mut first = queues.remove(0);
    for block in 0..50 {
        assert_eq!(first.write(block, &page_of(block)), OK);
        assert_eq!(second.read(block), (OK, page_of(block)));
    }
    assert_eq!(first.read(60), (OK, [0; 4096]));
    assert_eq!(first.write(BYTES / 4096, &page_of(1)), IO_ERROR);
    assert_eq!(pools.device().client().stats().persistent_pages, 50);
    // Another driver finds them.
    drop((first, second));
    guest.reset();
    assert_eq!(Blk::first(&guest).read(7), (OK, page_of(7)));
    assert_eq!(guest.counters.connections(), 1, "one connection for all");
}

#[test]
fn a_disk_without_a_daemon_has_no_size_until_one_comes() {
    let host = Host::new();
    let guest = guest(&host, 2);
    assert_eq!(guest.features(), FEATURES | COMMON_FEATURES);
    assert_eq!(space(&guest).capacity, 0);
    let mut driver = Blk::first(&guest);
    let generation = guest.read(register::VIRTIO_MMIO_CONFIG_GENERATION);
    // As a program does that tries it.
    driver.add_read(1, 0);
    driver.kick();
    let _daemon = host.serve(&host.disk(BYTES, 2));
    assert_ne!(expect_change(&guest), generation);
    assert_eq!(space(&guest).capacity, SECTORS);
    driver.wait();
    assert_eq!(driver.answer(1), (OK, [0; 4096]), "it has waited");
    assert_eq!(driver.write(3, &page_of(3)), OK);
    assert_eq!(driver.read(3), (OK, page_of(3)));
    assert_eq!(guest.counters.resets_asked(), 0);
}

#[test]
fn a_driver_that_looked_before_the_daemon_came_is_told_when_it_is_ready() {
    let host = Host::new();
    let guest = guest(&host, 1);
    assert_eq!(space(&guest).capacity, 0);
    let _daemon = host.serve(&host.disk(BYTES, 1));
    guest.until_connected(1);
    assert_eq!(space(&guest).capacity, 0, "until it is told");
    let mut driver = Blk::first(&guest);
    expect_change(&guest);
    assert_eq!(space(&guest).capacity, SECTORS);
    assert_eq!(driver.write(3, &page_of(3)), OK);
}

#[test]
fn requests_outstanding_when_the_daemon_is_lost_are_done_when_it_is_back() {
    let host = Host::new();
    let pools = host.disk(BYTES, 2);
    let mut daemon = Some(host.serve(&pools));
    let guest = guest(&host, 2);
    guest.until_connected(1);
    let mut driver = Blk::first(&guest);
    assert_eq!(driver.write(9, &page_of(9)), OK);
    for round in 2..6 {
        drop(daemon.take());
        guest.until_lost();
        while guest.is_interrupted_within(Duration::ZERO) {}
        driver.add_write(0, round, &page_of(round));
        driver.add_read(1, round);
        driver.add_read(2, 9);
        driver.kick();
        daemon = Some(host.serve(&pools));
        for _ in 0..3 {
            driver.wait();
        }
        assert_eq!(driver.answer(0).0, OK);
        assert_eq!(driver.answer(1), (OK, page_of(round)));
        assert_eq!(driver.answer(2), (OK, page_of(9)));
        guest.until_connected(round);
    }
    assert_eq!(guest.counters.resets_asked(), 0);
    assert!(!guest.needs_reset());
}

#[test]
fn blocks_that_went_with_a_daemon_are_errors_and_another_size_is_told() {
    let host = Host::new();
    let daemon = host.serve(&host.disk(BYTES, 2));
    let guest = guest(&host, 2);
    guest.until_connected(1);
    let mut driver = Blk::first(&guest);
    assert_eq!(driver.write(9, &page_of(9)), OK);
    drop(daemon);
    guest.until_lost();
    while guest.is_interrupted_within(Duration::ZERO) {}

    let _daemon = host.serve(&host.disk(2 * BYTES, 2));
    expect_change(&guest);
    assert_eq!(space(&guest).capacity, 2 * SECTORS);
    assert_eq!(driver.read(9).0, IO_ERROR);
    assert_eq!(driver.write(9, &page_of(1)), OK);
    assert_eq!(driver.read(9), (OK, page_of(1)));
    let beyond = BYTES / 4096 + 7;
    assert_eq!(driver.write(beyond, &page_of(2)), OK);
    assert_eq!(driver.read(beyond), (OK, page_of(2)));
    assert_eq!(guest.counters.resets_asked(), 0);
}

#[test]
fn a_daemon_with_fewer_queues_than_the_driver_uses_is_waited_out() {
    let host = Host::new();
    let pools = host.disk(BYTES, 2);
    let daemon = host.serve(&pools);
    let guest = guest(&host, 2);
    guest.until_connected(1);
    let mut queues = Blk::start(&guest);
    let mut second = queues.remove(1);
    assert_eq!(second.write(9, &page_of(9)), OK);
    drop(daemon);
    guest.until_lost();

    let few = host.disk(BYTES, 1);
    let daemon = host.serve(&few);
    until("it was tried", || few.connections() >= 2);
    assert_eq!(guest.counters.connections(), 1);
    second.add_read(1, 9);
    second.kick();
    drop(daemon);
    let _daemon = host.serve(&pools);
    second.wait();
    assert_eq!(second.answer(1), (OK, page_of(9)));

    // One that has been reset knows no better.
    drop((second, queues));
    guest.reset();
    assert_eq!(space(&guest).num_queues, 2);
}

#[test]
fn a_driver_has_its_write_cache_and_nothing_else() {
    let host = Host::new();
    let pools = host.disk(BYTES, 1);
    let daemon = host.serve(&pools);
    let guest = guest(&host, 1);
    guest.until_connected(1);
    let whole = guest.space::<60>();
    let theirs = || pools.device().read_config(32, 1)[0];
    // What is no such thing is not taken.
    for (at, data) in [
        (WRITEBACK, &[2][..]),
        (WRITEBACK, &[1, 0]),
        (WRITEBACK, &[]),
        (WRITEBACK - 32, &[1]),
        (WRITEBACK + 1, &[1]),
        (WRITEBACK + 2, &[9]),
        (0xfff, &[1]),
    ] {
        guest.transport.write(at, data);
    }
    assert_eq!(guest.space(), whole);
    // Before the driver is ready.
    guest.transport.write(WRITEBACK, &[1]);
    assert!(space(&guest).writeback);
    let mut driver = Blk::first(&guest);
    until("it is passed on", || theirs() == 1);
    guest.transport.write(WRITEBACK, &[0]);
    assert!(!space(&guest).writeback);
    until("it is passed on", || theirs() == 0);
    assert_eq!(driver.write(1, &page_of(1)), OK);
    // The next daemon is told, also what was written meanwhile.
    drop(daemon);
    guest.until_lost();
    guest.transport.write(WRITEBACK, &[1]);
    let _daemon = host.serve(&pools);
    until("it is passed on", || theirs() == 1);
    assert_eq!(driver.read(1), (OK, page_of(1)));
    assert!(space(&guest).writeback);
    // The next driver is another one.
    drop(driver);
    guest.reset();
    assert_eq!(guest.space(), whole);
    drop(Blk::first(&guest));
    until("it is passed on", || theirs() == 0);
}

#[test]
fn the_socket_of_another_device_is_not_used_until_it_has_the_right_one() {
    for kind in [Kind::Tmem, Kind::Disk] {
        let host = Host::new();
        let (right, wrong) = match kind {
            Kind::Tmem => (host.pools(2), host.disk(BYTES, 2)),
            Kind::Disk => (host.disk(BYTES, 2), host.pools(2)),
        };
        let daemon = host.serve(&wrong);
        let guest = Guest::with(kind, &host.socket(), 2);
        until("it was tried", || wrong.connections() >= 2);
        assert_eq!(guest.counters.connections(), 0);
        drop(daemon);
        let _daemon = host.serve(&right);
        guest.until_connected(1);
    }
}
