// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon and a front end, over shared memory, without a guest.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;

use common::Daemon;
use vhost_user_tmem::testing::{Ask, FrontEnd, guest_memory};
use virtio_tmem::testing::page_of;
use virtio_tmem::wire::{PoolKind, Status};

const OBJECT: [u8; 24] = [3; 24];
const MEMORY: u64 = 64 << 20;

#[test]
fn what_is_put_is_got_on_any_queue() {
    let daemon = Daemon::start(&["vm"], &[]);
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    assert!(front_end.config().is_supported());
    assert_eq!(front_end.config().request_queues, 2);
    let mut first = front_end.driver(1);
    let mut second = front_end.driver(2);
    assert_eq!(first.create_pool(0, PoolKind::Persistent), Status::OK);
    assert_eq!(second.create_pool(0, PoolKind::Persistent), Status::EXISTS);

    let pages: Vec<_> = (0..256).map(page_of).collect();
    let put = first.put(0, &OBJECT, 1000, &pages);
    assert_eq!(put.pages(256), [Status::OK; 256]);
    let got = second.get(0, &OBJECT, 1000, 256);

    assert_eq!(got.pages(256), [Status::OK; 256]);
    for (nth, page) in (0..).zip(&pages) {
        assert_eq!(got.page(256, nth), page, "page {nth}");
    }
    let stats = daemon.vm_stats("vm");
    assert_eq!(stats["persistent_pages"], 256);
    assert_eq!(stats["device"]["put_page_status"]["ok"], 256);
    assert_eq!(stats["device"]["get_page_status"]["ok"], 256);
}
