// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that stays with the VM although it gives it back: it is not certain that
//! the VM could have it again.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use tmem_store::{ClientConfig, Store};
use vm_memory::{Bytes, FileOffset};

use super::*;
use crate::device::{DeviceConfig, GiveBack, MAX_POOLS};

/// Where the region of each test begins.
const OTHER: u64 = 64 * MIB;
const HUGE: u64 = 2 * MIB;

/// Memory with a region of `file` behind the driver's own.
fn memory_with(file: &File, bytes: u64) -> Memory {
    let own = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
    own.set_len(SIZE as u64).unwrap();
    let other = Some(FileOffset::new(file.try_clone().unwrap(), 0));
    Memory::from_ranges_with_files([
        (GuestAddress(0), SIZE, Some(FileOffset::new(own, 0))),
        (GuestAddress(OTHER), bytes as usize, other),
    ])
    .unwrap()
}

fn device_of(store: &Store, which: GiveBack) -> Arc<Device> {
    let client = ClientConfig::new("vm", MIB).with_max_pools(MAX_POOLS);
    let config = DeviceConfig::new("vm", [7; 16])
        .with_swap_pages(16)
        .with_request_queues(1);
    let device = Device::new(store.add_client(client).unwrap(), config);
    Arc::new(device.with_give_back(which))
}

/// The statuses of `ranges`, and how many bytes count as given back.
fn statuses(mem: &Memory, which: GiveBack, ranges: &[(u64, u64)]) -> (Vec<Status>, u64) {
    let device = device_of(&store(), which);
    let answer = driver(mem, &device).relinquish(ranges);
    assert_eq!(answer.status(), Status::OK);
    let bytes = device.metrics().relinquished_bytes();
    assert_eq!(answer.header().pages * 4096, bytes);
    (answer.pages(ranges.len() as u32).to_vec(), bytes)
}

const KEPT: Status = Status::NOT_MEMORY;

#[test]
fn huge_pages_stay_unless_they_are_allowed_to_go_and_then_as_a_whole() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let Ok(file) = memfd_create("memory", flags) else {
        // This kernel has no huge pages.
        return;
    };
    let file = File::from(file);
    // None of them is ever touched, so none need be there.
    file.set_len(8 * HUGE).unwrap();
    let mem = memory_with(&file, 8 * HUGE);
    let whole = (OTHER + HUGE, 2 * HUGE);
    let parts = [
        (OTHER, 4096),
        (OTHER + 4096, 2 * HUGE),
        (OTHER, HUGE + 4096),
    ];
    let own = (12 * MIB, MIB);

    let ranges = [whole, parts[0], own];
    let kept = statuses(&mem, GiveBack::Certain, &ranges);
    assert_eq!(kept, (vec![KEPT, KEPT, Status::OK], MIB));

    let ranges = [whole, parts[0], parts[1], parts[2], own];
    let given = statuses(&mem, GiveBack::Any, &ranges);
    let expected = vec![Status::OK, KEPT, KEPT, KEPT, Status::OK];
    assert_eq!(given, (expected, 2 * HUGE + MIB));
}

#[test]
fn memory_in_a_file_system_that_may_be_full_stays_unless_it_is_allowed_to_go() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(MIB).unwrap();
    file.write_all_at(&[0x5a; 8192], 0).unwrap();
    let mem = memory_with(&file, MIB);
    let ranges = [(OTHER, 4096)];
    assert_eq!(statuses(&mem, GiveBack::Certain, &ranges), (vec![KEPT], 0));
    let byte = |at| mem.read_obj::<u8>(GuestAddress(at)).unwrap();
    assert_eq!(byte(OTHER), 0x5a, "all of it stays");
    assert_eq!(
        statuses(&mem, GiveBack::Any, &ranges),
        (vec![Status::OK], 4096)
    );
    assert_eq!((byte(OTHER), byte(OTHER + 4096)), (0, 0x5a));
}

#[test]
fn a_range_over_both_kinds_of_memory_stays_as_a_whole() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(MIB).unwrap();
    let own = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
    own.set_len(SIZE as u64).unwrap();
    let mem = Memory::from_ranges_with_files([
        (GuestAddress(0), SIZE, Some(FileOffset::new(own, 0))),
        (
            GuestAddress(SIZE as u64),
            MIB as usize,
            Some(FileOffset::new(file, 0)),
        ),
    ])
    .unwrap();
    let last = SIZE as u64 - 4096;
    mem.write_obj(0x5au8, GuestAddress(last)).unwrap();
    let kept = statuses(&mem, GiveBack::Certain, &[(last, 8192)]);
    assert_eq!(kept, (vec![KEPT], 0));
    assert_eq!(mem.read_obj::<u8>(GuestAddress(last)).unwrap(), 0x5a);
}
