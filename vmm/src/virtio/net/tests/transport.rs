// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device through its registers.

use virtio_bindings::bindings::virtio_mmio as register;

use super::*;
use crate::bus::BusDevice;

#[test]
fn the_registers_say_what_is_there() {
    let memory = memory();
    let guest = Guest::new(&memory, Net::new(socket().0, MAC).unwrap());
    assert_eq!(guest.read(register::VIRTIO_MMIO_DEVICE_ID), 1);
    for (index, size) in [(0, 256), (1, 256), (2, 0)] {
        guest.write(register::VIRTIO_MMIO_QUEUE_SEL, index);
        assert_eq!(guest.read(register::VIRTIO_MMIO_QUEUE_NUM_MAX), size);
    }
    let ours = OFFLOADS | MRG_RXBUF | 1 << 5 | 1 << 16;
    assert_eq!(guest.features(), 1 << 32 | 1 << 28 | EVENT_IDX | ours);
}

#[test]
fn the_configuration_reads_alike_at_every_offset_and_width() {
    let memory = memory();
    let guest = Guest::new(&memory, Net::new(socket().0, MAC).unwrap());
    let mut expected = vec![0; 0x100];
    expected[..8].copy_from_slice(&[2, 0, 0, 0, 0, 1, 1, 0]);
    for width in [1, 2, 4, 8] {
        for offset in 0..expected.len() - width {
            let at = 0x100 + offset as u64;
            guest.transport.write(at, &vec![0xff; width]);
            let mut data = vec![0xff; width];
            guest.transport.read(at, &mut data);
            assert_eq!(
                data,
                expected[offset..offset + width],
                "{width} at {offset}"
            );
        }
    }
}

#[test]
fn a_reset_under_load_leaves_memory_alone_and_the_device_usable() {
    let memory = memory();
    let (tap, host) = socket();
    let guest = Guest::new(&memory, Net::new(tap, MAC).unwrap());
    host.set_nonblocking(true).unwrap();
    for round in 0..30 {
        guest.seek(0x1000);
        let (mut receive, mut transmit) = start(&guest, 0, 64);
        let space = guest.space(1526);
        let packet = guest.put(&[header(0, 0), frame(round, 1000)].concat());
        for _ in 0..64 {
            receive.add(&[], &[space]).unwrap();
            transmit.add(&[packet], &[]).unwrap();
        }
        for _ in 0..20 {
            // Fails when the socket is full.
            let _ = host.send(&[header(0, 0), frame(round, 100)].concat());
        }
        guest.kick(0, &mut receive);
        guest.kick(1, &mut transmit);
        guest.reset();
        let used = (receive.used_idx(), transmit.used_idx());
        guest.seek(space.addr);
        let clean = guest.space(space.len);
        let _ = host.send(&[header(0, 0), frame(round, 100)].concat());
        guest.write(register::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        guest.reset();
        assert_eq!((receive.used_idx(), transmit.used_idx()), used);
        assert!(guest.bytes(&[clean]).iter().all(|byte| *byte == 0xee));
    }
    check_alive(&guest, &host);
}

#[test]
fn either_queue_alone_is_served() {
    let memory = memory();
    let (tap, host) = socket();
    let guest = Guest::new(&memory, Net::new(tap, MAC).unwrap());
    guest.negotiate(guest.features());
    let mut transmit = guest.queue(1, 16, true);
    guest.run();
    let span = guest.put(&[header(0, 0), frame(1, 60)].concat());
    transmit.add(&[span], &[]).unwrap();
    guest.kick(1, &mut transmit);
    guest.used(&mut transmit);
    host.recv(&mut [0; 100]).unwrap();
    guest.negotiate(guest.features());
    let mut receive = guest.queue(0, 16, true);
    guest.run();
    let space = guest.space(100);
    receive.add(&[], &[space]).unwrap();
    guest.kick_through(0);
    host.send(&[header(0, 0), frame(1, 60)].concat()).unwrap();
    assert_eq!(guest.used(&mut receive).len, 72);
}
