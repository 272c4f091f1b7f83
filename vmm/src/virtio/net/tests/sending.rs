// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From the guest to the host.

use super::*;
use crate::virtio::testing::cut;

/// What the host gets.
fn next(host: &UnixDatagram) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let len = host.recv(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn packets_arrive_in_order_however_they_are_cut() {
    for without in [0, EVENT_IDX] {
        let memory = memory();
        let (tap, host) = socket();
        let mut driver = Driver::new(&memory, tap, without, 256);
        for (seed, cuts) in [&[][..], &[12], &[1, 0, 14, 3], &[11, 2]]
            .iter()
            .enumerate()
        {
            let packet = [header(0, 0), frame(seed, 1514)].concat();
            let span = driver.guest.put(&packet);
            driver.send(&cut(span, cuts));
            assert!(next(&host) == packet);
        }
        assert_eq!(driver.stats.sent_packets.get(), 4);
        assert_eq!(driver.stats.sent_bytes.get(), 4 * 1514);
    }
}

#[test]
fn a_packet_of_64_kib_arrives_whole() {
    let memory = memory();
    let (tap, host) = socket();
    let mut driver = Driver::new(&memory, tap, 0, 256);
    let packet = [header(1, 1), frame(1, 65_549)].concat();
    let span = driver.guest.put(&packet);
    driver.send(&cut(span, &[12, 4096, 4096, 30_000]));
    assert!(next(&host) == packet);
}

#[test]
fn flags_that_the_host_does_not_know_do_not_reach_it() {
    let memory = memory();
    let (tap, host) = socket();
    let mut driver = Driver::new(&memory, tap, 0, 256);
    driver.send_bytes(&header(0xff, 0), &frame(1, 60));
    assert_eq!(next(&host)[..12], header(1, 0));
}

#[test]
fn what_makes_no_sense_is_dropped_and_given_back() {
    let memory = memory();
    let (tap, host) = socket();
    let mut driver = Driver::new(&memory, tap, OFFLOADS, 256);
    driver.send_bytes(&header(0, 0)[..11], &[]);
    driver.send_bytes(&header(0, 0), &[]);
    driver.send_bytes(&header(0, 0), &frame(1, 13));
    driver.send_bytes(&header(0, 0), &frame(1, 70_000));
    // Work that was not agreed on.
    driver.send_bytes(&header(1, 0), &frame(1, 60));
    driver.send_bytes(&header(1, 1), &frame(1, 60));
    driver.send_bytes(&header(0, 4), &frame(1, 60));
    // Room to be written.
    let space = driver.guest.space(100);
    let head = driver.transmit.add(&[], &[space]).unwrap();
    driver.guest.kick(1, &mut driver.transmit);
    let used = driver.guest.used(&mut driver.transmit);
    assert_eq!(used, Used { head, len: 0 });
    // Too many pieces.
    let span = driver.guest.put(&[header(0, 0), frame(1, 1400)].concat());
    let table = driver.guest.space(16 * 1500).addr;
    let pieces = cut(span, &[1; 1100]);
    driver.transmit.add_indirect(table, &pieces, &[]).unwrap();
    driver.guest.kick(1, &mut driver.transmit);
    driver.guest.used(&mut driver.transmit);
    assert_eq!(driver.stats.send_malformed.get(), 9);
    // The next good one is the first that arrives.
    let packet = [header(0, 0), frame(2, 14)].concat();
    driver.send_bytes(&packet, &[]);
    assert_eq!(next(&host), packet);
    assert_eq!(driver.stats.sent_packets.get(), 1);
}

#[test]
fn packets_that_the_host_does_not_take_are_counted() {
    let memory = memory();
    let (tap, host) = socket();
    let mut driver = Driver::new(&memory, tap, 0, 256);
    drop(host);
    driver.send_bytes(&header(0, 0), &frame(1, 60));
    driver.send_bytes(&header(0, 0), &frame(1, 60));
    assert_eq!(driver.stats.send_failed.get(), 2);
}

#[test]
fn a_burst_is_sent_whole() {
    let memory = memory();
    let (tap, host) = socket();
    let mut driver = Driver::new(&memory, tap, 0, 256);
    let reader = std::thread::spawn(move || (0..200).map(|_| next(&host)).collect::<Vec<_>>());
    let mut sent = Vec::new();
    for seed in 0..200 {
        let packet = [header(0, 0), frame(seed, 60 + seed)].concat();
        let span = driver.guest.put(&packet);
        driver.transmit.add(&[span], &[]).unwrap();
        driver.guest.kick(1, &mut driver.transmit);
        sent.push(packet);
    }
    for _ in 0..200 {
        driver.guest.used(&mut driver.transmit);
    }
    let failed = driver.stats.send_failed.get();
    // The socket may be full for a moment; a tap would not be.
    assert_eq!(driver.stats.sent_packets.get() + failed, 200);
    if failed == 0 {
        assert!(reader.join().unwrap() == sent);
    }
}
