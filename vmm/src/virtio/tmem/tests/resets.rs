// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Resets while requests are served.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use virtio_tmem::testing::{header, request};
use virtio_tmem::wire::{AnswerHeader, Op};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::event;
use crate::virtio::mmio::MmioTransport;

/// How long a reset may take, on a busy machine. It takes some milliseconds.
const SOON: Duration = Duration::from_secs(5);

/// Fills `queue` with requests to put `count` pages.
fn fill(guest: &Guest<'_>, queue: &mut Queue<'_>, count: u32) {
    let pages: Vec<u8> = (0..u64::from(count)).flat_map(page_of).collect();
    let bytes = request(&header(Op::Put, 0, &OBJECT, 0, count), &[&pages]);
    let readable = guest.put(&bytes);
    let answer = guest.space(AnswerHeader::SIZE as u32 + count);
    while queue.add(&[readable], &[answer]).is_some() {}
}

/// Waits until `done`.
fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < SOON, "not in time: {what}");
        thread::yield_now();
    }
}

/// Has the device look at a queue.
fn notify(transport: &MmioTransport, queue: u32) {
    let register = register::VIRTIO_MMIO_QUEUE_NOTIFY.into();
    transport.write(register, &queue.to_le_bytes());
}

/// A guest that has made pool 0.
fn guest_with_pool<'m>(memory: &'m Memory, store: &TmemInProcess, serve: Serve) -> Guest<'m> {
    let guest = guest(memory, store, serve);
    let [_, queue, _] = start(&guest);
    let mut driver = driver(memory, &guest, queue, 1);
    assert_eq!(driver.create_pool(0, PoolKind::Persistent), Status::OK);
    drop(driver);
    guest
}

#[test]
fn after_a_reset_nothing_of_the_driver_is_touched() {
    for serve in BOTH {
        let memory = memory();
        let store = store(&memory);
        let guest = guest_with_pool(&memory, &store, serve);
        for round in 0..20 {
            guest.seek(0x1000);
            let [_, mut queue, _] = start(&guest);
            fill(&guest, &mut queue, 64);
            let (transport, line) = (&guest.transport, guest.transport.interrupt().line());
            let served = thread::scope(|scope| {
                scope.spawn(|| notify(transport, 1));
                // At any point of the work.
                until("requests are served", || queue.used_idx() >= round);
                guest.reset();
                event::take(line);
                queue.used_idx()
            });
            // Whoever notified is through.
            assert!(!event::take(line));
            // The next driver's queues are elsewhere.
            let [_, _, second] = start(&guest);
            let mut second = driver(&memory, &guest, second, 2);
            assert!(second.limits().persistent_pages <= 64);
            assert_eq!(queue.used_idx(), served);
        }
    }
}

#[test]
fn endless_work_does_not_hold_up_a_reset() {
    for serve in BOTH {
        let memory = memory();
        let store = store(&memory);
        let guest = guest_with_pool(&memory, &store, serve);
        for _ in 0..10 {
            guest.seek(0x1000);
            let [_, mut first, mut second] = start(&guest);
            fill(&guest, &mut first, 64);
            fill(&guest, &mut second, 1);
            let (transport, over) = (&guest.transport, AtomicBool::new(false));
            let (began, over) = (Instant::now(), &over);
            let rings = [first.used_ring(), second.used_ring()];
            thread::scope(|scope| {
                for (index, queue) in [(1, &mut first), (2, &mut second)] {
                    scope.spawn(move || {
                        while !over.load(SeqCst) && began.elapsed() < 2 * SOON {
                            // As much as a queue can hold, always.
                            queue.set_avail_idx(queue.used_idx().wrapping_add(SIZE));
                            notify(transport, index);
                        }
                    });
                }
                until("both queues are served", || {
                    let index = |ring| memory.read_obj(GuestAddress(ring + 2));
                    rings
                        .iter()
                        .all(|ring| index(*ring).is_ok_and(|index: u16| index > 0))
                });
                let asked = Instant::now();
                guest.reset();
                over.store(true, SeqCst);
                assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
            });
        }
    }
}
