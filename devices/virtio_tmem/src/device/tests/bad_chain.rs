// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Descriptors and rings that make no sense.

use virtio_bindings::bindings::virtio_ring::{
    VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
};
use vm_memory::Bytes;

use super::*;
use crate::device::Step;
use crate::testing::{Span, Transport, Used, header, request};
use tmem_wire::{AnswerHeader, Op};

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;
const REQUEST: u64 = AREA;
const ANSWER: u64 = AREA + MIB;
const TABLE: u64 = AREA + 2 * MIB;

/// A descriptor's buffer, flags and next.
type Raw = (Span, u16, u16);

fn span(addr: u64, len: u32) -> Span {
    Span { addr, len }
}

/// A flush of page 0, in a chain made of `descriptors`, of which the first is
/// at the head.
fn run(driver: &mut TestDriver<'_>, mem: &Memory, descriptors: &[Raw]) -> Used {
    let flush = request(&header(Op::Flush, PERSISTENT, &OBJECT, 0, 1), &[]);
    mem.write_slice(&flush, GuestAddress(REQUEST)).unwrap();
    mem.write_slice(&[0xA5; 16], GuestAddress(ANSWER)).unwrap();
    // The highest descriptors are those that the driver uses last.
    for (at, (span, flags, next)) in (200..).zip(descriptors) {
        driver.queue().set_descriptor(at, *span, *flags, *next);
    }
    driver.queue().push(200);
    driver.transport().kick();
    driver.queue().pop_used().expect("the chain is used")
}

fn status(mem: &Memory) -> Status {
    let mut bytes = [0; AnswerHeader::SIZE];
    mem.read_slice(&mut bytes, GuestAddress(ANSWER)).unwrap();
    AnswerHeader::decode(&bytes).status
}

/// Runs each chain, which must be used with INVALID, or with length 0 if
/// nothing says otherwise, and must not flush page 0.
fn all_are_refused(fault: Fault, chains: &[(&[Raw], u32)]) {
    let mem = memory();
    let mut driver = rig(&mem);
    driver.put(PERSISTENT, &OBJECT, 0, &[page_of(1)]);
    for (nth, (chain, len)) in chains.iter().enumerate() {
        let used = run_counted(&mut driver, &mem, fault, chain);
        assert_eq!(
            used,
            Used {
                head: 200,
                len: *len
            },
            "chain {nth}"
        );
        if *len == 16 {
            assert_eq!(status(&mem), Status::INVALID, "chain {nth}");
        }
    }
    assert_eq!(driver.limits().persistent_pages, 1, "nothing was flushed");
}

fn run_counted(driver: &mut TestDriver<'_>, mem: &Memory, fault: Fault, chain: &[Raw]) -> Used {
    let before = driver.transport().device().metrics().faults(fault);
    let used = run(driver, mem, chain);
    let after = driver.transport().device().metrics().faults(fault);
    assert_eq!(after - before, 1);
    works(driver);
    used
}

#[test]
fn a_chain_that_loops_is_answered_if_there_is_room_before_the_loop() {
    let head = span(REQUEST, 48);
    let room = span(ANSWER, 16);
    all_are_refused(
        Fault::ChainBroken,
        &[
            // To itself, to the answer, and without an answer.
            (&[(head, NEXT, 201), (room, WRITE | NEXT, 201)], 16),
            (
                &[
                    (head, NEXT, 201),
                    (room, WRITE | NEXT, 202),
                    (room, WRITE | NEXT, 201),
                ],
                16,
            ),
        ],
    );
    let broken: &[Raw] = &[(head, NEXT, 200)];
    let mem = memory();
    let mut driver = rig(&mem);
    let used = run_counted(&mut driver, &mem, Fault::ChainBroken, broken);
    assert_eq!(used, Used { head: 200, len: 0 });
}

#[test]
fn a_chain_that_leaves_its_table_is_invalid() {
    let head = span(REQUEST, 48);
    let room = span(ANSWER, 16);
    all_are_refused(
        Fault::ChainBroken,
        &[
            (&[(head, NEXT, 201), (room, WRITE | NEXT, 256)], 16),
            (&[(head, NEXT, 201), (room, WRITE | NEXT, u16::MAX)], 16),
        ],
    );
}

#[test]
fn a_readable_descriptor_after_a_writable_one_is_invalid() {
    let head = span(REQUEST, 48);
    let room = span(ANSWER, 16);
    all_are_refused(
        Fault::ChainOrder,
        &[
            (&[(room, WRITE | NEXT, 201), (head, 0, 0)], 16),
            (
                &[
                    (head, NEXT, 201),
                    (room, WRITE | NEXT, 202),
                    (head, NEXT, 203),
                    (room, WRITE, 0),
                ],
                16,
            ),
        ],
    );
}

#[test]
fn a_header_in_a_write_only_descriptor_is_no_header() {
    let mem = memory();
    let mut driver = rig(&mem);
    let used = run_counted(
        &mut driver,
        &mem,
        Fault::RequestShort,
        &[
            (span(ANSWER, 16), WRITE | NEXT, 201),
            (span(REQUEST, 48), WRITE, 0),
        ],
    );
    assert_eq!(used.len, 16);
    assert_eq!(status(&mem), Status::INVALID);
}

#[test]
fn an_answer_in_a_read_only_descriptor_is_no_room() {
    let mem = memory();
    let mut driver = rig(&mem);
    let used = run_counted(
        &mut driver,
        &mem,
        Fault::AnswerMissing,
        &[(span(REQUEST, 48), NEXT, 201), (span(ANSWER, 16), 0, 0)],
    );
    assert_eq!(used.len, 0);
}

#[test]
fn a_malformed_indirect_table_is_used_with_length_0() {
    let mem = memory();
    let mut driver = rig(&mem);
    let tables = [
        span(TABLE, 0),
        span(TABLE, 15),
        span(TABLE, 33),
        span(SIZE as u64, 32),
        span(SIZE as u64 - 8, 32),
        span(u64::MAX, 32),
        span(TABLE, u32::MAX - 15),
    ];
    for table in tables {
        // What lies at TABLE is a chain of one descriptor that has a next.
        mem.write_slice(&[0xFF; 64], GuestAddress(TABLE)).unwrap();
        let used = run_counted(
            &mut driver,
            &mem,
            Fault::ChainBroken,
            &[(table, INDIRECT, 0)],
        );
        assert_eq!(used, Used { head: 200, len: 0 }, "{table:x?}");
    }
}

#[test]
fn an_indirect_table_in_an_indirect_table_is_refused() {
    let mem = memory();
    let mut driver = rig(&mem);
    let mut inner = [0; 16];
    inner[..8].copy_from_slice(&TABLE.to_le_bytes());
    inner[8..12].copy_from_slice(&16u32.to_le_bytes());
    inner[12..14].copy_from_slice(&INDIRECT.to_le_bytes());
    mem.write_slice(&inner, GuestAddress(TABLE)).unwrap();
    let used = run_counted(
        &mut driver,
        &mem,
        Fault::ChainBroken,
        &[(span(TABLE, 16), INDIRECT, 0)],
    );
    assert_eq!(used.len, 0);
}

#[test]
fn a_head_outside_the_table_costs_its_entry_only() {
    let mem = memory();
    let mut driver = rig(&mem);
    for head in [256, u16::MAX] {
        one_fault(&mut driver, Fault::HeadRange, |driver| {
            driver.queue().push(head);
            driver.transport().kick();
            assert!(driver.queue().pop_used().is_none());
        });
    }
}

#[test]
fn an_available_index_that_runs_ahead_stops_nothing_for_good() {
    let mem = memory();
    let mut driver = rig(&mem);
    one_fault(&mut driver, Fault::QueueIndex, |driver| {
        let index = driver.queue().avail_idx();
        driver.queue().set_avail_idx(index.wrapping_add(257));
        driver.transport().kick();
        assert_eq!(driver.transport().last, Step::Broken);
        assert!(driver.queue().pop_used().is_none());
        driver.queue().set_avail_idx(index);
        driver.transport().kick();
    });
}

#[test]
fn rings_outside_guest_memory_end_a_step_and_no_more() {
    let mem = memory();
    let device = device(&store(), "vm", MIB);
    let queue = DriverQueue::new(&mem, 0, QUEUE_SIZE, true);
    let end = SIZE as u64;
    for (avail, used, fault) in [
        (end, queue.used_ring(), Fault::QueueIndex),
        // The index is the last that can be read, the entries are not.
        (end - 4, queue.used_ring(), Fault::QueueIndex),
        (queue.avail_ring(), end, Fault::UsedRing),
    ] {
        let mut side = queue.device_side();
        let halves = |addr: u64| (Some(addr as u32), Some((addr >> 32) as u32));
        let (low, high) = halves(avail);
        virtio_queue::QueueT::set_avail_ring_address(&mut side, low, high);
        let (low, high) = halves(used);
        virtio_queue::QueueT::set_used_ring_address(&mut side, low, high);
        let one = 1u16.to_le_bytes();
        // Fails for the ring that lies outside as a whole.
        let _ = mem.write_slice(&one, GuestAddress(avail + 2));
        let before = device.metrics().faults(fault);
        let step = crate::device::RequestQueue::default().step(&device, &mem, &mut side);
        assert_eq!(step, Step::Broken);
        assert_eq!(device.metrics().faults(fault), before + 1);
    }
}
