// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device, driven as a guest drives it.

use proptest::prelude::*;
use virtio_bindings::bindings::virtio_mmio as register;

use super::Rng;
use crate::bus::BusDevice;
use crate::virtio::testing::{Guest, Queue, cut, hostile, memory};

/// A guest whose driver runs.
fn started<'m>(memory: &'m crate::virtio::Memory, rng: Rng) -> (Guest<'m>, Queue<'m>) {
    let guest = Guest::new(memory, rng.virtio().unwrap());
    assert_eq!(guest.negotiate(guest.features()), 0xb);
    let queue = guest.queue(0, 64, true);
    assert_eq!(guest.run(), 0xf);
    (guest, queue)
}

#[test]
fn requests_get_different_random_bytes() {
    let memory = memory();
    let rng = Rng::default();
    let stats = rng.stats();
    let (guest, mut queue) = started(&memory, rng);
    let spaces = [guest.space(64), guest.space(64)];
    for space in spaces {
        let head = queue.add(&[], &cut(space, &[1, 0, 30])).unwrap();
        guest.kick(0, &mut queue);
        let used = guest.used(&mut queue);
        assert_eq!((used.head, used.len), (head, 64));
    }
    let [one, two] = spaces.map(|space| guest.bytes(&[space]));
    assert_ne!(one, two);
    // All the same by chance: once in 2^500 runs.
    assert!(one.iter().any(|byte| *byte != one[0]), "{one:?}");
    assert_eq!(stats.requests.get(), 2);
    assert_eq!(stats.bytes.get(), 128);
}

#[test]
fn a_large_request_gets_some_bytes_and_no_more() {
    let memory = memory();
    let (guest, mut queue) = started(&memory, Rng::default());
    let space = guest.space(1 << 20);
    queue.add(&[], &[space]).unwrap();
    guest.kick(0, &mut queue);
    assert_eq!(guest.used(&mut queue).len, 4096);
    let bytes = guest.bytes(&[space]);
    assert!(bytes[4096..].iter().all(|byte| *byte == 0xee));
}

#[test]
fn a_request_without_room_is_given_back() {
    let memory = memory();
    let rng = Rng::default();
    let stats = rng.stats();
    let (guest, mut queue) = started(&memory, rng);
    let text = guest.put(b"give me nothing");
    let head = queue.add(&[text], &[]).unwrap();
    guest.kick(0, &mut queue);
    let used = guest.used(&mut queue);
    assert_eq!((used.head, used.len), (head, 0));
    assert_eq!(stats.failed.get(), 1);
}

#[test]
fn the_registers_say_what_is_there() {
    let memory = memory();
    let guest = Guest::new(&memory, Rng::default().virtio().unwrap());
    assert_eq!(guest.read(register::VIRTIO_MMIO_DEVICE_ID), 4);
    assert_eq!(guest.read(register::VIRTIO_MMIO_QUEUE_NUM_MAX), 64);
    assert_eq!(guest.features(), 1 << 32 | 1 << 29 | 1 << 28);
    for width in [1, 2, 4, 8] {
        for offset in 0x100..0x200 {
            let mut data = vec![0xff; width];
            guest.transport.read(offset, &mut data);
            assert!(data.iter().all(|byte| *byte == 0));
        }
    }
}

/// Another driver gets random bytes.
fn check_alive(guest: &Guest<'_>) {
    guest.negotiate(guest.features());
    guest.seek(0x1000);
    let mut queue = guest.queue(0, 64, true);
    guest.run();
    let space = guest.space(16);
    queue.add(&[], &[space]).unwrap();
    guest.kick(0, &mut queue);
    assert_eq!(guest.used(&mut queue).len, 16);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn registers_may_be_used_in_any_way(accesses in hostile::accesses()) {
        let memory = memory();
        let guest = Guest::new(&memory, Rng::default().virtio().unwrap());
        hostile::misuse_registers(&guest, &accesses);
        check_alive(&guest);
    }

    #[test]
    fn chains_may_be_anything(ring in hostile::rings(16)) {
        let memory = memory();
        let guest = Guest::new(&memory, Rng::default().virtio().unwrap());
        hostile::misuse_queue(&guest, 0, &ring);
        check_alive(&guest);
    }
}
