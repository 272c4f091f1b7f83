// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device through its registers.

use std::os::unix::fs::MetadataExt;

use virtio_bindings::bindings::virtio_mmio as register;

use super::*;
use crate::bus::BusDevice;

#[test]
fn the_registers_say_what_is_there() {
    let (image, memory) = (Image::new(), memory());
    let guest = Guest::new(&memory, Block::new("vda", image.disk()).virtio().unwrap());
    assert_eq!(guest.read(register::VIRTIO_MMIO_MAGIC_VALUE), 0x7472_6976);
    assert_eq!(guest.read(register::VIRTIO_MMIO_VERSION), 2);
    assert_eq!(guest.read(register::VIRTIO_MMIO_DEVICE_ID), 2);
    assert_eq!(guest.read(register::VIRTIO_MMIO_QUEUE_NUM_MAX), 256);
    guest.write(register::VIRTIO_MMIO_QUEUE_SEL, 1);
    assert_eq!(guest.read(register::VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    // VERSION_1, EVENT_IDX, INDIRECT_DESC; SIZE_MAX, SEG_MAX, BLK_SIZE, FLUSH,
    // DISCARD, WRITE_ZEROES.
    let expected = 1 << 32 | 1 << 29 | 1 << 28 | 0b110_0010_0100_0110;
    assert_eq!(guest.features(), expected);
}

#[test]
fn the_configuration_reads_alike_at_every_offset_and_width() {
    let (image, memory) = (Image::new(), memory());
    let guest = Guest::new(&memory, Block::new("vda", image.disk()).virtio().unwrap());
    let piece = image.file.metadata().unwrap().blksize();
    let mut expected = vec![0; 0x100];
    let fields: [(usize, u64, usize); 10] = [
        (0, SIZE / 512, 8),
        (8, 1 << 20, 4),
        (12, 254, 4),
        (20, 512, 4),
        (36, 1 << 21, 4),
        (40, 16, 4),
        (44, piece / 512, 4),
        (48, 1 << 17, 4),
        (52, 1, 4),
        (56, 1, 1),
    ];
    for (at, value, len) in fields {
        expected[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }
    for width in [1, 2, 4, 8] {
        for offset in 0..expected.len() - width {
            let mut data = vec![0xff; width];
            guest.transport.read(0x100 + offset as u64, &mut data);
            assert_eq!(
                data,
                expected[offset..offset + width],
                "{width} at {offset}"
            );
            guest
                .transport
                .write(0x100 + offset as u64, &vec![0xff; width]);
        }
    }
    let mut data = [1; 8];
    guest.transport.read(0xffe, &mut data);
    assert_eq!(data, [0; 8]);
}

#[test]
fn features_that_are_not_offered_are_not_accepted() {
    let (image, memory) = (Image::new(), memory());
    let guest = Guest::new(&memory, Block::new("vda", image.disk()).virtio().unwrap());
    assert_eq!(guest.negotiate(guest.features() | 1 << 12), 3, "MQ");
    assert_eq!(guest.negotiate(1 << 9), 3, "without VERSION_1");
    assert_eq!(guest.negotiate(1 << 32), 0xb);
}

#[test]
fn rings_outside_memory_do_not_start_the_device() {
    let memory = memory();
    for low in [
        register::VIRTIO_MMIO_QUEUE_DESC_LOW,
        register::VIRTIO_MMIO_QUEUE_AVAIL_LOW,
        register::VIRTIO_MMIO_QUEUE_USED_LOW,
    ] {
        for (high, value) in [(0, 0xffff_f000), (0x7fff_ffff, 0), (0, 0x00ff_fff0)] {
            let image = Image::new();
            let guest = Guest::new(&memory, Block::new("vda", image.disk()).virtio().unwrap());
            guest.negotiate(guest.features());
            let _ = guest.queue(0, 256, true);
            guest.write(low, value);
            guest.write(low + 4, high);
            assert_eq!(guest.run(), 0x4f, "needs a reset");
            guest.write(register::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
            guest.reset();
            assert_eq!(guest.read(register::VIRTIO_MMIO_STATUS), 0);
        }
    }
}

#[test]
fn a_reset_under_load_leaves_memory_alone_and_the_device_usable() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    for round in 0..50 {
        driver.guest.seek(driver.mark);
        let header = driver.guest.put(&header(IN, round));
        let space = driver.guest.space(64 << 10);
        let status = driver.guest.space(1);
        for _ in 0..80 {
            driver.queue.add(&[header], &[space, status]).unwrap();
        }
        driver.guest.kick(0, &mut driver.queue);
        driver.guest.reset();
        let used = driver.queue.used_idx();
        let after = driver.guest.put(&[0x5a; 16]);
        driver.guest.seek(space.addr);
        let clean = driver.guest.space(space.len);
        assert_eq!(driver.guest.read(register::VIRTIO_MMIO_STATUS), 0);
        driver.guest.write(register::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        driver.guest.reset();
        assert_eq!(
            driver.queue.used_idx(),
            used,
            "nothing is used after a reset"
        );
        assert!(
            driver
                .guest
                .bytes(&[clean])
                .iter()
                .all(|byte| *byte == 0xee)
        );
        assert_eq!(driver.guest.bytes(&[after]), [0x5a; 16]);
        assert_eq!(driver.guest.negotiate(driver.guest.features()), 0xb);
        driver.guest.seek(0x1000);
        driver.queue = driver.guest.queue(0, 256, true);
        assert_eq!(driver.guest.run(), 0xf);
        driver.check_alive();
    }
}

#[test]
fn a_queue_that_is_not_enabled_is_not_served() {
    let (image, memory) = (Image::new(), memory());
    let guest = Guest::new(&memory, Block::new("vda", image.disk()).virtio().unwrap());
    guest.negotiate(guest.features());
    assert_eq!(guest.run(), 0xf);
    for index in [0, 1, 0xffff, u32::MAX] {
        guest.write(register::VIRTIO_MMIO_QUEUE_NOTIFY, index);
    }
    guest.reset();
}
