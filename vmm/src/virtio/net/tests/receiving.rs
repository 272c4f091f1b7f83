// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From the host to the guest.

use super::*;
use crate::virtio::testing::cut;

fn packet(seed: usize, len: usize) -> Vec<u8> {
    [header(0, 0), frame(seed, len)].concat()
}

/// The same, as the guest is to see it.
fn in_buffers(seed: usize, len: usize, buffers: u16) -> Vec<u8> {
    [with_buffers(header(0, 0), buffers), frame(seed, len)].concat()
}

#[test]
fn packets_arrive_one_to_a_buffer() {
    for without in [0, EVENT_IDX, MRG_RXBUF, MRG_RXBUF | EVENT_IDX] {
        let memory = memory();
        let (tap, host) = socket();
        let mut driver = Driver::new(&memory, tap, without, 256);
        for seed in 0..20 {
            let space = driver.offer(1526);
            host.send(&packet(seed, 60 + 70 * seed)).unwrap();
            assert_eq!(driver.received(space), in_buffers(seed, 60 + 70 * seed, 1));
        }
        assert_eq!(driver.stats.received_packets.get(), 20);
        assert_eq!(driver.stats.received_bytes.get(), 20 * 60 + 70 * 190);
    }
}

#[test]
fn a_buffer_may_be_cut_anywhere() {
    let memory = memory();
    let (tap, host) = socket();
    let mut driver = Driver::new(&memory, tap, 0, 256);
    let space = driver.guest.space(1526);
    let parts = cut(space, &[1, 0, 10, 2, 100]);
    driver.receive.add(&[], &parts).unwrap();
    driver.guest.kick(0, &mut driver.receive);
    host.send(&packet(3, 300)).unwrap();
    assert_eq!(driver.received(space), in_buffers(3, 300, 1));
}

#[test]
fn a_long_packet_takes_several_buffers_which_are_used_at_once() {
    for without in [0, EVENT_IDX] {
        let memory = memory();
        let (tap, host) = socket();
        let mut driver = Driver::new(&memory, tap, without, 16);
        // More often than the ring has room, so that it wraps between them.
        let mark = driver.guest.mark();
        for seed in 0..500 {
            driver.guest.seek(mark);
            let spaces: Vec<_> = (0..5).map(|_| driver.offer(1500)).collect();
            // 5 * 1500 bytes, less the header.
            let len = 7488 - 1400 * (seed % 2);
            let before = driver.receive.used_idx();
            host.send(&packet(seed, len)).unwrap();
            let after = loop {
                let now = driver.receive.used_idx();
                if now != before {
                    break now;
                }
                std::hint::spin_loop();
            };
            assert_eq!(after, before.wrapping_add(5), "all or none");
            let mut bytes = Vec::new();
            for space in spaces {
                bytes.extend(driver.received(space));
            }
            assert!(bytes == in_buffers(seed, len, 5));
        }
        // With the spinning above, interrupts were not needed.
        let spaces: Vec<_> = (0..5).map(|_| driver.offer(1500)).collect();
        let _ = driver.guest.transport.interrupt().line().read();
        host.send(&packet(1, 7000)).unwrap();
        driver.guest.interrupted();
        for _ in spaces {
            assert!(driver.receive.pop_used().is_some());
        }
    }
}

#[test]
fn an_interrupt_awaited_for_a_later_buffer_comes_with_the_first() {
    let memory = memory();
    let (tap, host) = socket();
    let mut driver = Driver::new(&memory, tap, 0, 16);
    for awaited in 0..3 {
        for _ in 0..3 {
            driver.offer(100);
        }
        driver.receive.want_notification_after(awaited);
        host.send(&packet(1, 200)).unwrap();
        assert_eq!(driver.guest.interrupted(), 1);
        for _ in 0..3 {
            assert!(driver.receive.pop_used().is_some());
        }
    }
}

#[test]
fn packets_wait_for_buffers() {
    for without in [0, EVENT_IDX] {
        let memory = memory();
        let (tap, host) = socket();
        let mut driver = Driver::new(&memory, tap, without, 16);
        for seed in 0..3 {
            host.send(&packet(seed, 2000)).unwrap();
        }
        // Not enough for one.
        let mut spaces = vec![driver.offer(1500)];
        for seed in 0..3 {
            spaces.push(driver.offer(1500));
            let mut bytes = Vec::new();
            for space in spaces.drain(..) {
                bytes.extend(driver.received(space));
            }
            assert!(bytes == in_buffers(seed, 2000, 2));
            spaces.push(driver.offer(1500));
        }
        assert!(driver.stats.receive_waits.get() >= 1);
        assert_eq!(driver.stats.receive_dropped.get(), 0);
    }
}

#[test]
fn a_packet_that_will_never_fit_is_dropped_and_its_buffers_serve_the_next() {
    for (without, buffers) in [(0, 4), (MRG_RXBUF, 1)] {
        let memory = memory();
        let (tap, host) = socket();
        let mut driver = Driver::new(&memory, tap, without, 4);
        let spaces: Vec<_> = (0..4).map(|_| driver.offer(500)).collect();
        host.send(&packet(1, 500 * buffers - 11)).unwrap();
        host.send(&packet(2, 400)).unwrap();
        assert_eq!(driver.received(spaces[0]), in_buffers(2, 400, 1));
        assert_eq!(driver.stats.receive_dropped.get(), 1);
        assert_eq!(driver.receive.used_idx(), 1);
    }
}

#[test]
fn a_buffer_without_room_for_a_header_is_given_back() {
    let memory = memory();
    let (tap, host) = socket();
    let mut driver = Driver::new(&memory, tap, 0, 16);
    driver.offer(11);
    let text = driver.guest.put(b"read only");
    driver.receive.add(&[text], &[]).unwrap();
    driver.guest.kick(0, &mut driver.receive);
    let space = driver.offer(100);
    for seed in 0..3 {
        host.send(&packet(seed, 60)).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(driver.guest.used(&mut driver.receive).len, 0);
    }
    assert_eq!(driver.received(space), in_buffers(2, 60, 1));
    assert_eq!(driver.stats.receive_dropped.get(), 2);
}

#[test]
fn unfinished_packets_reach_only_a_guest_that_can_finish_them() {
    for (without, expected) in [(0, 3), (OFFLOADS, 1)] {
        let memory = memory();
        let (tap, host) = socket();
        let mut driver = Driver::new(&memory, tap, without, 16);
        let spaces: Vec<_> = (0..4).map(|_| driver.offer(200)).collect();
        for (flags, gso) in [(1, 0), (1, 1), (0, 3), (2, 0)] {
            host.send(&[header(flags, gso), frame(1, 60)].concat())
                .unwrap();
        }
        let seen: Vec<_> = spaces[..expected]
            .iter()
            .map(|space| driver.received(*space)[..2].to_vec())
            .collect();
        if without == 0 {
            assert_eq!(seen, [[1, 0], [1, 1], [2, 0]]);
        } else {
            assert_eq!(seen, [[0, 0]], "validated, but it does not know the flag");
        }
        assert_eq!(driver.stats.receive_dropped.get() as usize, 4 - expected);
    }
}

#[test]
fn packets_from_before_the_driver_are_thrown_away() {
    let memory = memory();
    let (tap, host) = socket();
    for seed in 0..5 {
        host.send(&packet(seed, 60)).unwrap();
    }
    let mut driver = Driver::new(&memory, tap, 0, 16);
    let space = driver.offer(200);
    host.send(&packet(7, 60)).unwrap();
    assert_eq!(driver.received(space), in_buffers(7, 60, 1));
}

#[test]
fn a_lost_tap_is_a_link_that_goes_down() {
    let memory = memory();
    let (tap, host) = socket();
    let mut driver = Driver::new(&memory, tap, 0, 16);
    driver.offer(200);
    assert_eq!(driver.guest.read(0x104) >> 16, 1, "up");
    // A packet without header: no tap gives one.
    host.send(&[]).unwrap();
    assert_eq!(driver.guest.interrupted(), 2, "the configuration changed");
    assert_eq!(driver.guest.read(0x104) >> 16, 0, "down");
    // The guest can go on as if there were a network.
    driver.send_bytes(&header(0, 0), &frame(1, 60));
    assert_eq!(driver.stats.send_failed.get(), 1);
    driver.offer(200);
    driver.guest.reset();
    assert_eq!(driver.guest.read(0x104) >> 16, 0, "it stays down");
}
