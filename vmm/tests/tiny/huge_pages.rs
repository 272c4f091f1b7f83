// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest in huge pages, which gives one back. Somebody else takes it then.

use std::fs;

use tempfile::TempDir;
use virtio_bindings::virtio_blk::{VIRTIO_BLK_S_OK, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_tmem::wire::{DEVICE_ID, MemoryRange, Op, PAGE_SIZE, PoolKind, PoolSpec, Status};

use crate::api::ask_last;
use crate::asm::Width;
use crate::guest::Guest;
use crate::pool::{HUGE_PAGE, Pool};
use crate::tmem::{answer, ask_for};
use crate::virtio::{Device, Queue};
use crate::vmm::{Vmm, can_run, run, skip};

/// Of 8 MiB, as the guests of these tests have.
const PAGES: u64 = 4;

/// The last of them, which the program does not use.
const GIVEN: MemoryRange = MemoryRange {
    address: 3 * HUGE_PAGE,
    bytes: HUGE_PAGE,
};

const MARK: u64 = 0x1122_3344_5566_7788;

fn pool() -> Option<Pool> {
    if !can_run() {
        return None;
    }
    Pool::make(PAGES).inspect_err(|why| skip(why)).ok()
}

/// The program's part that gives `range` back.
fn relinquish(guest: &mut Guest, device: Device, range: MemoryRange, status: Status) -> Queue {
    device.negotiate(guest, DEVICE_ID);
    let mut queue = Queue::new(guest, 1);
    device.enable(guest, &queue);
    device.run(guest);
    let request = ask_for(Op::Relinquish, 1, &range.encode());
    let room = queue.add(guest, &[&request], 17);
    device.request(guest, &mut queue);
    device.wait(guest, &queue);
    let pages = match status {
        Status::OK => range.bytes / PAGE_SIZE as u64,
        _ => 0,
    };
    guest.expect_bytes("relinquish", room, &answer(Status::OK, pages, &[status]));
    device.interrupt(guest);
    queue
}

/// The program: gives a page back, and uses its memory by `touch` when the power button
/// was pressed.
fn ends(args: &[&str], tmem: Device, touch: impl FnOnce(&mut Guest, &mut Queue)) {
    let Some(pool) = pool() else {
        return;
    };
    let mut guest = Guest::new();
    let mut queue = relinquish(&mut guest, tmem, GIVEN, Status::OK);
    guest.print("given\n");
    guest.wait_for_button();
    touch(&mut guest, &mut queue);
    guest.print("goes on\n");
    guest.power_off();
    let mut vmm = Vmm::start(
        &guest,
        &[&["--hugepages", "--tmem", "quota=16M,give-back=any"], args].concat(),
    );
    vmm.see("given\n");
    assert_eq!(Pool::free(), 1);
    let _taken = pool.exhaust();
    ask_last(&vmm.api(), "PUT", "/v1/vm/shutdown");
    let ended = vmm.end();
    assert_eq!((ended.code(), &*ended.out), (Some(4), ""), "{ended:?}");
    assert!(
        ended.said.starts_with("tmem-vmm: ") && ended.said.contains("the host has no page"),
        "{ended:?}"
    );
    assert_eq!(ended.said.lines().count(), 1, "{ended:?}");
}

#[test]
fn huge_pages_stay_with_the_guest() {
    let Some(_pool) = pool() else {
        return;
    };
    let mut guest = Guest::new();
    guest.write(Width::Eight, GIVEN.address, MARK);
    relinquish(&mut guest, Device(1), GIVEN, Status::NOT_MEMORY);
    guest.read(Width::Eight, GIVEN.address);
    guest.expect("what was there", MARK);
    guest.print("stays\n");
    guest.power_off();
    let ended = run(&guest, &["--hugepages", "--tmem", "quota=16M"]);
    assert_eq!(ended.out, "stays\n", "{ended:?}");
    ended.silently(0);
}

#[test]
fn parts_of_huge_pages_stay_also_where_whole_ones_may_go() {
    let Some(_pool) = pool() else {
        return;
    };
    let part = MemoryRange {
        address: GIVEN.address + PAGE_SIZE as u64,
        bytes: HUGE_PAGE / 2,
    };
    let mut guest = Guest::new();
    guest.write(Width::Eight, part.address, MARK);
    relinquish(&mut guest, Device(1), part, Status::NOT_MEMORY);
    guest.read(Width::Eight, part.address);
    guest.expect("what was there", MARK);
    guest.print("stays\n");
    guest.power_off();
    let tmem = "quota=16M,give-back=any";
    let ended = run(&guest, &["--hugepages", "--tmem", tmem]);
    assert_eq!(ended.out, "stays\n", "{ended:?}");
    ended.silently(0);
}

#[test]
fn a_vcpu_that_touches_a_page_which_is_gone_ends_the_machine() {
    ends(&[], Device(1), |guest, _| {
        guest.write(Width::Eight, GIVEN.address, MARK);
    });
}

/// KVM looks for the page in the background, and has the vCPU try again for ever.
#[test]
fn a_vcpu_that_takes_the_same_fault_for_ever_ends_the_machine() {
    ends(&[], Device(1), |guest, _| {
        guest.code.enable_interrupts();
        guest.write(Width::Eight, GIVEN.address, MARK);
    });
}

#[test]
fn a_device_that_copies_to_a_page_which_is_gone_ends_the_machine() {
    ends(&[], Device(1), |guest, queue| {
        let spec = PoolSpec::own(PoolKind::Persistent);
        let request = ask_for(Op::CreatePool, 0, &spec.encode());
        let request = (guest.put(&request, 16), request.len(), false);
        queue.add_chain(guest, &[request, (GIVEN.address, 16, true)]);
        Device(1).request(guest, queue);
        Device(1).wait(guest, queue);
    });
}

/// The kernel copies there, and says EFAULT instead of raising SIGBUS.
#[test]
fn a_disk_that_is_read_to_a_page_which_is_gone_ends_the_machine() {
    const SECTOR: usize = 512;
    for kind in [VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("disk.raw");
        fs::write(&path, [0x5a; 8 * SECTOR]).unwrap();
        let disk = ["--disk", path.to_str().unwrap()];
        ends(&disk, Device(2), |guest, _| {
            let device = Device(0);
            device.negotiate(guest, VIRTIO_ID_BLOCK);
            let mut queue = Queue::new(guest, 0);
            device.enable(guest, &queue);
            device.run(guest);
            let header = [kind.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat();
            let header = (guest.put(&header, 16), header.len(), false);
            let status = guest.space(1, 0xee, 16);
            let data = (GIVEN.address, SECTOR, kind == VIRTIO_BLK_T_IN);
            queue.add_chain(guest, &[header, data, (status, 1, true)]);
            device.request(guest, &mut queue);
            device.wait(guest, &queue);
            guest.expect_bytes("status", status, &[VIRTIO_BLK_S_OK as u8]);
        });
        assert!(
            fs::read(&path).unwrap() == [0x5a; 8 * SECTOR],
            "the disk stays as it is"
        );
    }
}
