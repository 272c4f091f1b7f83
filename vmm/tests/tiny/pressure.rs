// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest's program that puts more than there is room for, uncompressed.

use rustix::process::Signal;
use virtio_tmem::testing::page_of;
use virtio_tmem::wire::{DEVICE_ID, Op, PAGE_SIZE, PoolKind, PoolSpec, RequestHeader, Status};

use crate::api::ask;
use crate::asm::Width;
use crate::guest::Guest;
use crate::tmem::{answer, ask_for};
use crate::virtio::{Device, Queue};
use crate::vmm::{Vmm, can_run};

/// Where the index is in a request.
const INDEX_AT: u64 = 32;

/// Runs of pages, and pages in each.
const RUNS: u64 = 64;
const RUN: usize = 32;

/// The program: puts [`RUNS`] runs and gets them back.
fn fill_store(guest: &mut Guest, device: Device) {
    device.negotiate(guest, DEVICE_ID);
    let mut queues = [1, 2, 3].map(|index| Queue::new(guest, index));
    for queue in &queues {
        device.enable(guest, queue);
    }
    device.run(guest);
    let spec = PoolSpec::own(PoolKind::Persistent);
    let [create, put, get] = &mut queues;
    create.add(guest, &[&ask_for(Op::CreatePool, 0, &spec.encode())], 16);
    device.request(guest, create);
    device.wait(guest, create);
    let pages: Vec<u8> = (0..RUN as u64).flat_map(page_of).collect();
    let done = answer(Status::OK, RUN as u64, &[Status::OK; RUN]);
    let request = ask_for(Op::Put, RUN as u32, &pages);
    let (request_at, put_at) = put.add_for_ever(guest, &request, done.len());
    let put_pages = request_at + RequestHeader::SIZE as u64;
    let request = ask_for(Op::Get, RUN as u32, &[]);
    let room = done.len() + pages.len();
    let (question_at, got_at) = get.add_for_ever(guest, &request, room);
    let got_pages = got_at + done.len() as u64;
    for run in 0..RUNS {
        // Each run has its number in it.
        guest.write(Width::Eight, put_pages, run);
        guest.write(Width::Eight, request_at + INDEX_AT, run * RUN as u64);
        device.request(guest, put);
        device.wait(guest, put);
        guest.expect_bytes("put", put_at, &done);
    }
    for run in 0..RUNS {
        guest.write(Width::Eight, question_at + INDEX_AT, run * RUN as u64);
        device.request(guest, get);
        device.wait(guest, get);
        guest.expect_bytes("get", got_at, &done);
        guest.read(Width::Eight, got_pages);
        guest.expect("the run's number", run);
        // A look at one page; where instructions are emulated, it takes long
        // to look at all.
        let page = run * 5 % RUN as u64 * PAGE_SIZE as u64 + 512;
        let expected = &pages[page as usize..][..64];
        guest.expect_bytes("a page", got_pages + page, expected);
    }
}

#[test]
fn pages_are_compressed_to_fit_and_the_quota_can_be_changed() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    fill_store(&mut guest, Device(1));
    guest.print("all there\n");
    guest.halt();
    for serve in ["vcpu", "thread"] {
        // 8 MiB of pages, half of which can be compressed.
        let tmem = format!("quota=6M,memory-limit=6M,queues=3,serve={serve}");
        let mut vmm = Vmm::start(&guest, &["--tmem", &tmem]);
        vmm.see("all there\n");
        let api = vmm.api();
        let stats = ask(&api, "GET", "/v1/stats", "");
        let metric = |name: &str| stats["vms"]["guest"][name].as_u64().unwrap();
        assert_eq!(metric("persistent_pages"), RUNS * RUN as u64);
        assert!(metric("compressed_pages") > 0, "{stats}");
        assert!(metric("held_bytes") <= 6 << 20, "{stats}");
        for quota in [4096, 6 << 20] {
            let body = format!("{{\"quota\": {quota}}}");
            let changed = ask(&api, "PATCH", "/v1/vms/guest", &body);
            assert_eq!(changed["quota_bytes"], quota);
            // What is in there stays.
            assert_eq!(changed["persistent_pages"], RUNS * RUN as u64);
        }
        vmm.signal(Signal::TERM);
        vmm.end().silently(0);
    }
}
