// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! When the driver hears of used buffers.

use vm_memory::Bytes;

use super::*;
use crate::device::{RequestQueue, Step};
use crate::testing::{Span, header, request};
use tmem_wire::Op;

/// Makes `count` requests available at once and returns which of them are
/// notified.
fn notified(queue: &mut DriverQueue<'_, Memory>, mem: &Memory, count: u64) -> Vec<bool> {
    let bytes = request(&header(Op::GetLimits, 0, &OBJECT, 0, 0), &[]);
    mem.write_slice(&bytes, GuestAddress(AREA)).unwrap();
    for nth in 0..count {
        let span = |addr, len| Span { addr, len };
        let room = span(AREA + 4096 * (nth + 1), 80);
        queue.add(&[span(AREA, 48)], &[room]).unwrap();
    }
    let device = device(&store(), "vm", MIB);
    let mut side = queue.device_side();
    let mut requests = RequestQueue::default();
    let mut notified = Vec::new();
    while let Step::Used { notify } = requests.step(&device, mem, &mut side) {
        notified.push(notify);
    }
    notified
}

#[test]
fn with_event_idx_the_driver_hears_when_it_asked_to() {
    let mem = memory();
    let mut queue = DriverQueue::new(&mem, 0, QUEUE_SIZE, true);
    queue.want_notification_after(2);
    assert_eq!(notified(&mut queue, &mem, 4), [false, false, true, false]);
}

#[test]
fn without_event_idx_the_driver_hears_of_each_unless_it_says_no() {
    let mem = memory();
    let mut queue = DriverQueue::new(&mem, 0, QUEUE_SIZE, false);
    assert_eq!(notified(&mut queue, &mem, 2), [true, true]);

    let mut queue = DriverQueue::new(&mem, 0, QUEUE_SIZE, false);
    let no_interrupt = 1u16.to_le_bytes();
    mem.write_slice(&no_interrupt, GuestAddress(queue.avail_ring()))
        .unwrap();
    assert_eq!(notified(&mut queue, &mem, 2), [false, false]);
}
