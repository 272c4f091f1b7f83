// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Back ends of a disk that do what they may, and nobody expects; and some that may not.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tmem_vmm::bus::BusDevice;
use tmem_vmm::virtio::COMMON_FEATURES;
use tmem_vmm::virtio::vhost_user::Kind;
use vhost::vhost_user::message::FrontendReq;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_IN_ORDER;
use virtio_bindings::bindings::virtio_mmio as register;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX,
};
use virtio_blk_tmem::wire::{Limits, SPACE, Space};

use crate::blk::{Blk, space};
use crate::fake::{Act, Device, Fake};
use crate::guest::{Guest, PATIENCE, until};
use crate::hostile::disk;

/// What a disk has in any case.
const LEAST: u64 = COMMON_FEATURES | 1 << VIRTIO_F_IN_ORDER | 1 << VIRTIO_BLK_F_BLK_SIZE | 1 << 30;

/// A disk as a daemon has it, but for some of its configuration space.
fn disk_with(change: impl FnOnce(&mut Space)) -> Device {
    let mut device = disk();
    let mut space = Space::decode(device.space.first_chunk::<SPACE>().unwrap());
    change(&mut space);
    device.space = space.encode().to_vec();
    device
}

/// A directory, and a guest whose disk's daemon listens there.
fn guest(queues: u16) -> (TempDir, Guest) {
    let dir = TempDir::new().unwrap();
    let guest = Guest::with(Kind::Disk, &dir.path().join("vm.sock"), queues);
    (dir, guest)
}

fn serve(dir: &TempDir, device: Device) -> Fake {
    Fake::new(&dir.path().join("vm.sock"), device, None)
}

#[test]
fn features_are_what_the_daemon_and_the_rings_have() {
    for (offered, expected) in [
        (LEAST, LEAST & !(1 << 30)),
        // Read-only, a geometry, zones; a packed ring, notification data, and more.
        (
            u64::MAX,
            disk().features & !(1 << 30) | 1 << VIRTIO_F_IN_ORDER,
        ),
        (LEAST | 1 << VIRTIO_BLK_F_RO, LEAST & !(1 << 30)),
    ] {
        let (dir, guest) = guest(2);
        let device = Device {
            features: offered,
            ..disk()
        };
        let fake = serve(&dir, device);
        guest.until_connected(1);
        assert_eq!(guest.features(), expected, "{offered:#x}");
        let has_queues = expected & 1 << VIRTIO_BLK_F_MQ != 0;
        assert_eq!(space(&guest).num_queues, if has_queues { 2 } else { 1 });
        drop(Blk::start(&guest));
        let started = if has_queues { 2 } else { 1 };
        let enabled = || fake.seen(FrontendReq::SET_VRING_ENABLE);
        until("the queues are served", || enabled() == started);
        // Nothing is written that nobody has a field for.
        let has_cache = expected & 1 << VIRTIO_BLK_F_CONFIG_WCE != 0;
        let written = fake.seen(FrontendReq::SET_CONFIG);
        assert_eq!(written, usize::from(has_cache));
    }
}

#[test]
fn a_driver_is_shown_what_the_rings_have_room_for() {
    let (dir, guest) = guest(2);
    let device = disk_with(|space| {
        space.seg_max = u32::MAX;
        space.num_queues = 9;
        space.writeback = true;
        space.capacity = 0;
    });
    let _fake = serve(
        &dir,
        Device {
            queues: 9,
            ..device
        },
    );
    guest.until_connected(1);
    let shown = space(&guest);
    assert_eq!(shown.seg_max, 254);
    assert_eq!(shown.num_queues, 2);
    assert!(shown.writeback);
    assert_eq!(shown.capacity, 0);
}

#[test]
fn what_is_no_plain_disk_is_not_used() {
    let without = |feature: u32| Device {
        features: disk().features & !(1 << feature),
        ..disk()
    };
    let wrong = [
        without(VIRTIO_F_IN_ORDER),
        without(VIRTIO_BLK_F_BLK_SIZE),
        without(30),
        disk_with(|space| space.blk_size = 512),
        disk_with(|space| space.capacity = 7),
        disk_with(|space| space.size_max = 512),
        disk_with(|space| space.seg_max = 0),
        disk_with(|space| space.num_queues = 0),
        Device {
            queues: 0,
            ..disk()
        },
        Device {
            space: Vec::new(),
            ..disk()
        },
    ];
    std::thread::scope(|scope| {
        for device in wrong {
            scope.spawn(move || {
                let (dir, guest) = guest(2);
                let fake = serve(&dir, device.clone());
                until("it was tried", || fake.connections() >= 2);
                assert_eq!(guest.counters.connections(), 0, "{device:?}");
                assert_eq!(space(&guest).capacity, 0, "the driver sees nothing of it");
            });
        }
    });
}

/// A field that is of no feature may have anything.
#[test]
fn fields_without_a_feature_are_not_judged() {
    let (dir, guest) = guest(1);
    let mut device = disk_with(|space| {
        space.size_max = 1;
        space.seg_max = 0;
        space.num_queues = 0;
        space.min_io_size = 0xffff;
    });
    for feature in [VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_MQ] {
        device.features &= !(1 << feature);
    }
    let _fake = serve(&dir, device);
    guest.until_connected(1);
}

#[test]
fn a_daemon_that_takes_less_than_a_driver_was_told_is_waited_out() {
    let less = [
        disk_with(|space| space.size_max = 4096),
        disk_with(|space| space.seg_max = 1),
        disk_with(|space| space.discard = Limits::default()),
        disk_with(|space| space.write_zeroes.sectors = 8),
        Device {
            features: disk().features & !(1 << VIRTIO_BLK_F_SEG_MAX),
            ..disk()
        },
    ];
    std::thread::scope(|scope| {
        for device in less {
            scope.spawn(move || {
                let (dir, guest) = guest(2);
                let fake = serve(&dir, disk());
                guest.until_connected(1);
                let driver = Blk::start(&guest);
                let whole = guest.space::<SPACE>();
                drop(fake);
                guest.until_lost();
                let fake = serve(&dir, device.clone());
                until("it was tried", || fake.connections() >= 2);
                assert_eq!(guest.counters.connections(), 1, "{device:?}");
                assert_eq!(fake.seen(FrontendReq::SET_VRING_ENABLE), 0);
                assert_eq!(guest.space(), whole);
                drop(fake);
                // More is as good.
                let fake = serve(&dir, disk_with(|space| space.seg_max = 200));
                let enabled = || fake.seen(FrontendReq::SET_VRING_ENABLE);
                until("the queues are served", || enabled() == 2);
                assert_eq!(guest.space(), whole);
                assert!(!guest.needs_reset());
                drop(driver);
            });
        }
    });
}

/// Each time another size: a driver hears of all, and reads none that is of two.
#[test]
fn a_disk_may_have_another_size_each_time() {
    let (dir, guest) = guest(1);
    let sizes = [0x1_0000_0000, 0xffff_fff8, 0, u64::MAX - 7, 0x1_0000_0000];
    let mut fake = serve(&dir, disk_with(|space| space.capacity = 8));
    guest.until_connected(1);
    let driver = Blk::first(&guest);
    for (round, size) in (2..).zip(sizes) {
        drop(fake);
        fake = serve(&dir, disk_with(|space| space.capacity = size));
        guest.until_connected(round);
        until("the driver hears of it", || {
            let generation = || guest.read(register::VIRTIO_MMIO_CONFIG_GENERATION);
            let before = generation();
            let read = space(&guest).capacity;
            before == generation() && read == size
        });
    }
    assert!(!guest.needs_reset());
    drop(driver);
}

#[test]
fn a_driver_that_writes_all_the_time_fills_nothing_and_waits_for_nobody() {
    const WRITEBACK: u64 = register::VIRTIO_MMIO_CONFIG as u64 + 32;
    const WRITES: u32 = 100_000;
    let (dir, guest) = guest(1);
    let path = dir.path().join("vm.sock");
    let fault = (FrontendReq::SET_CONFIG, Act::Silence);
    let fake = Fake::new(&path, disk(), Some(fault));
    guest.until_connected(1);
    let driver = Blk::first(&guest);
    let start = Instant::now();
    for nth in 0..WRITES {
        guest.transport.write(WRITEBACK, &[u8::from(nth % 2 == 0)]);
    }
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    guest.until_connected(2);
    // The last one counts.
    guest.transport.write(WRITEBACK, &[1]);
    let last = || fake.bodies(FrontendReq::SET_CONFIG).last().cloned();
    until("it is passed on", || {
        last().is_some_and(|body| body.last() == Some(&1))
    });
    assert!(fake.seen(FrontendReq::SET_CONFIG) < WRITES as usize / 10);
    let body = last().unwrap();
    assert_eq!(body[..8], [32, 0, 0, 0, 1, 0, 0, 0], "offset and size");
    drop(driver);
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_daemon_is_found_while_a_driver_writes_all_the_time() {
    const WRITEBACK: u64 = register::VIRTIO_MMIO_CONFIG as u64 + 32;
    let (dir, guest) = guest(1);
    let fake = serve(&dir, disk());
    guest.until_connected(1);
    let driver = Blk::first(&guest);
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !end.load(SeqCst) {
                guest.transport.write(WRITEBACK, &[1]);
            }
        });
        drop(fake);
        let next = serve(&dir, disk());
        let found = || next.seen(FrontendReq::SET_VRING_ENABLE) == 1;
        let start = Instant::now();
        while !found() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        end.store(true, SeqCst);
        writer.join().unwrap();
        assert!(found());
        drop(next);
    });
    drop(driver);
}
