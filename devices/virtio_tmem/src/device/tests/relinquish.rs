// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that the VM gives back. What the host has got is asked of the file
//! behind the memory, not of the device.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::{Bytes, FileOffset};

use super::*;
use crate::device::{MAX_RANGES, Quota};
use crate::testing::{Span, header, request};
use tmem_wire::{AnswerHeader, Op, PAGE_SIZE};

const PAGE: u64 = PAGE_SIZE as u64;

/// A second region of the same file, next to the first.
const NEIGHBOUR: u64 = SIZE as u64;
/// One without a file, behind a gap.
const ANONYMOUS: u64 = 64 * MIB;
/// Where there is nothing.
const GAP: u64 = 48 * MIB;
/// Memory that no driver of these tests uses otherwise.
const FREE: u64 = 12 * MIB;

/// Memory of two regions with a file, and one without.
fn memory_of_a_file() -> (Memory, File) {
    let file = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(2 * SIZE as u64).unwrap();
    let part = |offset| Some(FileOffset::new(file.try_clone().unwrap(), offset));
    let regions = [
        // In the file, the first comes last.
        (GuestAddress(0), SIZE, part(SIZE as u64)),
        (GuestAddress(NEIGHBOUR), SIZE, part(0)),
        (GuestAddress(ANONYMOUS), SIZE, None),
    ];
    let mem = Memory::from_ranges_with_files(regions).unwrap();
    (mem, file)
}

/// Fills memory with something.
fn fill(mem: &Memory, start: u64, bytes: u64) {
    let content = vec![0x5a; bytes as usize];
    mem.write_slice(&content, GuestAddress(start)).unwrap();
}

/// Bytes of the host's memory that the file has.
fn held(file: &File) -> u64 {
    file.metadata().unwrap().blocks() * 512
}

/// A driver that has touched what it uses of its memory.
fn settled(mem: &Memory) -> TestDriver<'_> {
    let mut driver = rig(mem);
    for _ in 0..2 {
        driver.relinquish(&[(GAP, PAGE)]);
        works(&mut driver);
    }
    driver
}

/// The byte that is at `address`.
fn at(mem: &Memory, address: u64) -> u8 {
    mem.read_obj(GuestAddress(address)).unwrap()
}

#[test]
fn what_is_given_back_is_the_hosts_and_reads_as_zeros() {
    let (mem, file) = memory_of_a_file();
    let mut driver = settled(&mem);
    fill(&mem, FREE - PAGE, 2 * MIB);
    let before = held(&file);
    let answer = driver.relinquish(&[(FREE, MIB), (FREE + MIB + PAGE, PAGE)]);
    assert_eq!(answer.status(), Status::OK);
    assert_eq!(answer.pages(2), [Status::OK; 2]);
    assert_eq!(answer.header().pages, 257);
    assert_eq!(before - held(&file), 257 * PAGE);
    for address in [FREE, FREE + MIB - 1, FREE + MIB + PAGE] {
        assert_eq!(at(&mem, address), 0, "{address:#x}");
    }
    // Not a byte more.
    for address in [FREE - 1, FREE + MIB, FREE + MIB + 2 * PAGE] {
        assert_eq!(at(&mem, address), 0x5a);
    }
    // It is the VM's again once it is touched, and be it by reading.
    assert_eq!(before - held(&file), (257 - 3) * PAGE);
    fill(&mem, FREE, MIB);
    fill(&mem, FREE + MIB + PAGE, PAGE);
    assert_eq!(before - held(&file), 0);
    let device = driver.transport().device().clone();
    assert_eq!(device.metrics().relinquished_bytes(), 257 * PAGE);
}

#[test]
fn a_range_may_reach_over_regions_and_be_longer_than_a_step() {
    let (mem, file) = memory_of_a_file();
    let mut driver = rig(&mem);
    let start = NEIGHBOUR - 2 * MIB;
    fill(&mem, start, 14 * MIB);
    let before = held(&file);
    let answer = driver.relinquish(&[(start, 14 * MIB)]);
    assert_eq!(answer.pages(1), [Status::OK]);
    assert_eq!(before - held(&file), 14 * MIB);
    assert_eq!(at(&mem, NEIGHBOUR - 1), 0);
    assert_eq!(at(&mem, NEIGHBOUR), 0);
}

#[test]
fn ranges_may_overlap_and_be_given_back_twice() {
    let (mem, file) = memory_of_a_file();
    let mut driver = settled(&mem);
    fill(&mem, FREE, MIB);
    let before = held(&file);
    let ranges = [(FREE, MIB), (FREE + PAGE, PAGE), (FREE, MIB)];
    for _ in 0..2 {
        let answer = driver.relinquish(&ranges);
        assert_eq!(answer.pages(3), [Status::OK; 3]);
    }
    assert_eq!(before - held(&file), MIB);
}

#[test]
fn what_is_not_memory_stays_and_the_others_go() {
    let (mem, file) = memory_of_a_file();
    let mut driver = settled(&mem);
    fill(&mem, FREE, MIB);
    fill(&mem, ANONYMOUS, PAGE);
    fill(&mem, 2 * NEIGHBOUR - PAGE, PAGE);
    let before = held(&file);
    let foreign = [
        // Nowhere, at the end of the address space, and partly beyond the last page.
        (GAP, PAGE),
        (u64::MAX - PAGE + 1, PAGE),
        (2 * NEIGHBOUR - PAGE, 2 * PAGE),
    ];
    let mut ranges = foreign.to_vec();
    ranges.push((ANONYMOUS, PAGE));
    ranges.push((FREE, MIB));
    let answer = driver.relinquish(&ranges);
    assert_eq!(answer.status(), Status::OK);
    assert_eq!(answer.pages(4), [Status::NOT_MEMORY; 4]);
    assert_eq!(answer.pages(5)[4], Status::OK);
    assert_eq!(answer.header().pages, 256);
    assert_eq!(before - held(&file), MIB);
    assert_eq!(at(&mem, 2 * NEIGHBOUR - PAGE), 0x5a, "nothing of it went");
    assert_eq!(at(&mem, ANONYMOUS), 0x5a);
    let device = driver.transport().device().clone();
    // Memory without a file is nobody's mistake.
    assert_eq!(device.metrics().faults(Fault::RangeForeign), 2 + 3);
    works(&mut driver);
}

#[test]
fn a_range_that_is_none_keeps_all_of_them() {
    let (mem, file) = memory_of_a_file();
    let mut driver = settled(&mem);
    fill(&mem, FREE, MIB);
    let before = held(&file);
    for (range, fault) in [
        ((FREE, 0), Fault::RangeBounds),
        ((u64::MAX - PAGE + 1, 2 * PAGE), Fault::RangeBounds),
        ((2 * PAGE, u64::MAX - PAGE + 1), Fault::RangeBounds),
        ((FREE + 1, PAGE), Fault::RangeAlignment),
        ((FREE, PAGE + 512), Fault::RangeAlignment),
    ] {
        let answer = one_fault(&mut driver, fault, |driver| {
            driver.relinquish(&[(FREE, PAGE), range])
        });
        assert_eq!(answer.status(), Status::INVALID, "{range:x?}");
        assert_eq!(answer.header().pages, 0);
    }
    assert_eq!(held(&file), before);
    assert_eq!(at(&mem, FREE), 0x5a);
}

#[test]
fn the_number_of_ranges_is_bounded() {
    let (mem, _file) = memory_of_a_file();
    let mut driver = rig(&mem);
    let many = vec![(FREE, PAGE); MAX_RANGES as usize];
    let answer = driver.relinquish(&many);
    assert_eq!(answer.pages(MAX_RANGES).last(), Some(&Status::OK));
    let answer = one_fault(&mut driver, Fault::TooLong, |driver| {
        driver.relinquish(&vec![(FREE, PAGE); MAX_RANGES as usize + 1])
    });
    assert_eq!(answer.status(), Status::TOO_LONG);
    let answer = one_fault(&mut driver, Fault::CountZero, |driver| {
        driver.relinquish(&[])
    });
    assert_eq!(answer.status(), Status::INVALID);
    // Without room for the statuses nothing is done.
    fill(&mem, FREE, PAGE);
    let head = header(Op::Relinquish, 0, &[0; 24], 0, 2);
    let range = tmem_wire::MemoryRange {
        address: FREE,
        bytes: PAGE,
    };
    let bytes = request(&head, &[&range.encode(), &range.encode()]);
    let answer = one_fault(&mut driver, Fault::AnswerShort, |driver| {
        driver.call(&bytes, AnswerHeader::SIZE + 1, &Default::default())
    });
    assert_eq!(answer.status(), Status::INVALID);
    assert_eq!(at(&mem, FREE), 0x5a);
}

#[test]
fn on_credit_a_vm_may_put_what_it_has_given_back() {
    let (mem, file) = memory_of_a_file();
    let mut driver = settled(&mem);
    let device = driver.transport().device().clone();
    fill(&mem, 0x80_0000, SIZE as u64 - 0x80_0000);
    fill(&mem, NEIGHBOUR, SIZE as u64);
    let base = MIB;
    device.set_quota_as(Quota::Credit { base });
    device.watch_memory(&mem);
    let quota = driver.limits().quota_bytes;
    let given = 2 * SIZE as u64 - held(&file);
    assert_eq!(quota, base + given);
    driver.relinquish(&[(NEIGHBOUR, 8 * MIB)]);
    assert_eq!(driver.limits().quota_bytes, quota + 8 * MIB);
    // Memory that is used again is not given back any more.
    fill(&mem, NEIGHBOUR, 6 * MIB);
    device.watch_memory(&mem);
    let limits = driver.limits();
    assert_eq!(limits.quota_bytes, quota + 2 * MIB);
    assert_eq!(limits.memory_bytes, 2 * SIZE as u64);
    assert_eq!(limits.backed_bytes, held(&file));
    // Whatever memory does, a fixed quota stays.
    device.set_quota(3 * MIB);
    driver.relinquish(&[(NEIGHBOUR, 8 * MIB)]);
    assert_eq!(driver.limits().quota_bytes, 3 * MIB);
}

#[test]
fn a_driver_that_gives_its_own_buffers_back_loses_only_those() {
    let (mem, _file) = memory_of_a_file();
    let shared = store();
    let device = device(&shared, "vm", 32 * MIB);
    let mut driver = driver(&mem, &device);
    driver.create_pool(PERSISTENT, PoolKind::Persistent);
    driver.put(PERSISTENT, &OBJECT, 0, &[page_of(1)]);
    // The request itself, with its answer.
    let area = TestDriver::AREA;
    let used = driver.relinquish(&[(AREA, area)]).used;
    assert_eq!(used, AnswerHeader::SIZE as u32 + 1);
    // The rings: nothing can be made available there any more.
    let rings = DriverQueue::<Memory>::footprint(QUEUE_SIZE).next_multiple_of(PAGE);
    let bytes = request(
        &header(Op::Relinquish, 0, &[0; 24], 0, 1),
        &[&tmem_wire::MemoryRange {
            address: 0,
            bytes: rings,
        }
        .encode()],
    );
    mem.write_slice(&bytes, GuestAddress(AREA)).unwrap();
    let span = |addr, len: usize| Span {
        addr,
        len: len as u32,
    };
    driver.queue().add(
        &[span(AREA, bytes.len())],
        &[span(AREA + MIB, AnswerHeader::SIZE + 1)],
    );
    driver.submit();
    let status: u8 = mem
        .read_obj(GuestAddress(AREA + MIB + AnswerHeader::SIZE as u64))
        .unwrap();
    assert_eq!(Status(status), Status::OK);
    // After a reset it has its pages.
    let mut again = self::driver(&mem, &device);
    let got = again.get(PERSISTENT, &OBJECT, 0, 1);
    assert_eq!(got.page(1, 0), page_of(1));
    // And so has another VM of the store.
    let other_mem = memory();
    let mut other = self::driver(&other_mem, &crate::testing::device(&shared, "b", MIB));
    other.create_pool(PERSISTENT, PoolKind::Persistent);
    other.create_pool(EPHEMERAL, PoolKind::Ephemeral);
    works(&mut other);
}

#[test]
fn nothing_is_given_back_while_a_request_uses_memory() {
    let (mem, _file) = memory_of_a_file();
    let device = device(&store(), "vm", 32 * MIB);
    fill(&mem, FREE, PAGE);
    let using = device.frames_in_use.shared();
    let (done, is_done) = mpsc::channel();
    std::thread::scope(|scope| {
        let (mem, device) = (&mem, &device);
        scope.spawn(move || {
            driver(mem, device).relinquish(&[(FREE, PAGE)]);
            done.send(()).unwrap();
        });
        let early = is_done.recv_timeout(Duration::from_millis(50));
        assert_eq!(early, Err(RecvTimeoutError::Timeout));
        assert_eq!(at(mem, FREE), 0x5a);
        drop(using);
        is_done.recv().unwrap();
        assert_eq!(at(mem, FREE), 0);
    });
}
