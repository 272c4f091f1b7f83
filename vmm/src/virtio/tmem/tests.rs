// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device, driven as a guest drives it: requests served by the thread that
//! notifies, or by another.
#![allow(clippy::cast_possible_truncation)]

mod disk;
mod resets;

use tmem_store::Compression;
use virtio_bindings::bindings::virtio_mmio as register;
use virtio_tmem::device::{GiveBack, Quota};
use virtio_tmem::testing::{Driver, Transport, page_of};
use virtio_tmem::wire::{Config, EVENT_QUEUE, Event, EventKind, PoolKind, Status};
use vm_memory::GuestMemoryMmap;

use super::{Serve, TmemInProcess, TmemOptions};
use crate::bus::BusDevice;
use crate::virtio::Memory;
use crate::virtio::testing::{Guest, Queue, memory};

const BOTH: [Serve; 2] = [Serve::Vcpu, Serve::Thread];

const QUOTA: u64 = 32 << 20;

/// Descriptors of the queues here.
const SIZE: u16 = 64;

const OBJECT: [u8; 24] = [5; 24];

/// Memory that [`Driver`]s may use, by their queues.
fn area(queue: u32) -> u64 {
    (2 << 20) + u64::from(queue - 1) * Driver::<GuestMemoryMmap, Bell<'_>>::AREA
}

/// Notifies of a queue and waits for interrupts.
struct Bell<'a> {
    guest: &'a Guest<'a>,
    queue: u32,
}

impl Transport for Bell<'_> {
    fn kick(&mut self) {
        self.guest
            .write(register::VIRTIO_MMIO_QUEUE_NOTIFY, self.queue);
    }

    fn wait(&mut self) {
        self.guest.interrupted();
    }
}

fn store(memory: &Memory) -> TmemInProcess {
    let options = TmemOptions {
        quota: QUOTA,
        memory_limit: None,
        swap_size: 2 * QUOTA,
        is_disk: false,
        queues: 2,
        serve: Serve::Vcpu,
        codec: Compression::default(),
        give_back: GiveBack::default(),
        name: "guest".parse().unwrap(),
    };
    TmemInProcess::new(&options, memory).unwrap()
}

fn guest<'m>(memory: &'m Memory, store: &TmemInProcess, serve: Serve) -> Guest<'m> {
    Guest::new(memory, store.virtio(serve).unwrap())
}

/// Starts the driver: all queues.
fn start<'m>(guest: &Guest<'m>) -> [Queue<'m>; 3] {
    assert_eq!(guest.negotiate(guest.features()), 0xb);
    let queues = [0, 1, 2].map(|index| guest.queue(index, SIZE, true));
    assert_eq!(guest.run(), 0xf);
    queues
}

fn driver<'a>(
    memory: &'a Memory,
    guest: &'a Guest<'a>,
    queue: Queue<'a>,
    index: u32,
) -> Driver<'a, GuestMemoryMmap, Bell<'a>> {
    let bell = Bell {
        guest,
        queue: index,
    };
    Driver::new(memory, queue, area(index), bell)
}

#[test]
fn pages_are_what_was_put_until_they_are_flushed() {
    for serve in BOTH {
        let memory = memory();
        let store = store(&memory);
        let guest = guest(&memory, &store, serve);
        let [_, first, second] = start(&guest);
        let mut first = driver(&memory, &guest, first, 1);
        let mut second = driver(&memory, &guest, second, 2);
        assert_eq!(first.create_pool(3, PoolKind::Persistent), Status::OK);
        for round in 0..20 {
            let pages: Vec<_> = (0..16).map(|nth| page_of(round * 16 + nth)).collect();
            let put = first.put(3, &OBJECT, round * 16, &pages);
            assert!(put.pages(16).iter().all(|status| *status == Status::OK));
        }
        for round in 0..20 {
            let got = second.get(3, &OBJECT, round * 16, 16);
            assert!(got.pages(16).iter().all(|status| *status == Status::OK));
            for nth in 0..16 {
                assert_eq!(got.page(16, nth), page_of(round * 16 + u64::from(nth)));
            }
        }
        assert_eq!(second.limits().persistent_pages, 320);
        assert_eq!(first.flush(3, &OBJECT, 100, 20).header().pages, 20);
        let got = second.get(3, &OBJECT, 99, 22);
        let expected: Vec<_> = (99..121)
            .map(|index| match index {
                100..120 => Status::MISS,
                _ => Status::OK,
            })
            .collect();
        assert_eq!(got.pages(22), expected);
        assert_eq!(first.destroy_pool(3).header().pages, 300);
        assert_eq!(second.limits().persistent_pages, 0);
    }
}

#[test]
fn the_registers_say_what_is_there() {
    let memory = memory();
    let store = store(&memory);
    let guest = guest(&memory, &store, Serve::Vcpu);
    assert_eq!(guest.read(register::VIRTIO_MMIO_DEVICE_ID), 60);
    assert_eq!(guest.features(), 1 << 35 | 1 << 32 | 1 << 29 | 1 << 28);
    for (queue, max) in [(0, 256), (1, 256), (2, 256), (3, 0)] {
        guest.write(register::VIRTIO_MMIO_QUEUE_SEL, queue);
        assert_eq!(guest.read(register::VIRTIO_MMIO_QUEUE_NUM_MAX), max);
    }
    let mut space = [0xff; 80];
    for (at, byte) in (0x100..).zip(&mut space) {
        guest.transport.read(at, std::slice::from_mut(byte));
    }
    let (config, rest) = space.split_first_chunk().unwrap();
    let config = Config::decode(config);
    assert!(config.is_supported());
    assert_eq!(config.request_queues, 2);
    assert!(rest.iter().all(|byte| *byte == 0));
}

#[test]
fn another_quota_is_an_event_also_for_a_driver_that_comes_later() {
    for serve in BOTH {
        let memory = memory();
        let store = store(&memory);
        let guest = guest(&memory, &store, serve);
        // Nobody is there to hear of it.
        store.device.set_quota(Quota::Fixed(QUOTA / 2));
        for quota in [QUOTA / 2, QUOTA / 4] {
            let [mut events, requests, _] = start(&guest);
            let buffer = guest.space(Event::SIZE as u32);
            events.add(&[], &[buffer]).unwrap();
            guest.kick(EVENT_QUEUE.into(), &mut events);
            if quota == QUOTA / 4 {
                store.device.set_quota(Quota::Fixed(quota));
            }
            assert_eq!(guest.used(&mut events).len, buffer.len);
            let event = Event::decode(guest.bytes(&[buffer])[..].try_into().unwrap());
            assert_eq!(event.kind, EventKind::Limits as u32);
            let mut driver = driver(&memory, &guest, requests, 1);
            assert_eq!(driver.limits().quota_bytes, quota);
        }
    }
}
