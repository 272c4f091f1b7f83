// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Shares whose pages are named by their hash: no driver can put there what does not belong there, nor
//! take away what does.

use tmem_wire::{Extent, Op, PoolFlags, PoolSpec, ShareId};
use vm_memory::Bytes;

use super::*;
use crate::device::{DeviceConfig, Verifier};
use crate::testing::{
    Allowed, Answer, HostShares, Layout, Span, client, header, host_shares, request,
    verified_shares,
};

const GOLDEN: ShareId = [0x60; 16];
const OTHER: ShareId = [0x61; 16];
const SHARE: u32 = 9;
const SALT: [u8; 32] = [0x5a; 32];

type Handle = (ObjectId, u64);

fn host(store: &Store) -> HostShares {
    verified_shares(store, &[GOLDEN, OTHER], 8 * MIB, &SALT)
}

/// A driver that may have all shares, and has made the persistent pool of [`works`].
fn vm<'m>(mem: &'m Memory, store: &Store, host: &HostShares) -> (TestDriver<'m>, Arc<Allowed>) {
    let allowed = Allowed::new(host, &[GOLDEN, OTHER]);
    let config = DeviceConfig::new("vm", [7; 16]);
    let device = Device::new(client(store, "vm", MIB), config).with_shares(allowed.clone());
    let mut driver = driver(mem, &Arc::new(device));
    let created = driver.create_pool(PERSISTENT, PoolKind::Persistent);
    assert_eq!(created, Status::OK);
    (driver, allowed)
}

/// The same, with a share.
fn with_share<'m>(mem: &'m Memory, store: &Store, host: &HostShares) -> TestDriver<'m> {
    let (mut driver, _) = vm(mem, store, host);
    assert_eq!(driver.create_verified_pool(SHARE, GOLDEN), Status::OK);
    driver
}

fn handle_with(salt: &[u8], page: &tmem_store::Page) -> Handle {
    let hash = Verifier::new(salt).hash(page);
    (hash.object(), hash.index())
}

/// Where the page of `seed` belongs.
fn handle(seed: u64) -> Handle {
    handle_with(&SALT, &page_of(seed))
}

fn put(driver: &mut TestDriver<'_>, (object, index): Handle, seed: u64) -> Status {
    let answer = driver.put(SHARE, &object, index, &[page_of(seed)]);
    assert_eq!(answer.status(), Status::OK);
    assert_eq!(
        answer.header().pages,
        u64::from(answer.pages(1)[0].is_ok()),
        "of pages put"
    );
    answer.pages(1)[0]
}

/// A put of a page that does not belong there.
fn wrong(driver: &mut TestDriver<'_>, handle: Handle, seed: u64) {
    let status = one_fault(driver, Fault::HashMismatch, |driver| {
        put(driver, handle, seed)
    });
    assert_eq!(status, Status::MISMATCH);
}

/// Whether the page of `seed` is where it belongs.
fn has(driver: &mut TestDriver<'_>, seed: u64) -> bool {
    let (object, index) = handle(seed);
    let answer = driver.get(SHARE, &object, index, 1);
    assert_eq!(answer.status(), Status::OK);
    match answer.pages(1)[0] {
        Status::OK => {
            assert_eq!(answer.page(1, 0), page_of(seed));
            true
        }
        status => {
            assert_eq!(status, Status::MISS);
            false
        }
    }
}

#[test]
fn only_a_page_whose_hash_is_its_handle_is_put() {
    let (store, mems) = (store(), [memory(), memory()]);
    let host = host(&store);
    let [mut good, mut hostile] = mems.each_ref().map(|mem| with_share(mem, &store, &host));
    let (object, index) = handle(1);
    for near in [
        handle(2),
        (object, index ^ 1),
        (object, index.swap_bytes()),
        ([0; 24], index),
        ([0; 24], 0),
        ([0xff; 24], u64::MAX),
        handle_with(&[], &page_of(1)),
        handle_with(&SALT[1..], &page_of(1)),
    ] {
        wrong(&mut hostile, near, 1);
        let got = hostile.get(SHARE, &near.0, near.1, 1);
        assert_eq!(got.pages(1), [Status::MISS]);
    }
    assert_eq!(put(&mut good, handle(1), 1), Status::OK);
    assert!(has(&mut hostile, 1) && has(&mut good, 1));
    // It stays, whatever else is put there.
    wrong(&mut hostile, handle(1), 2);
    wrong(&mut hostile, handle(1), 0);
    assert!(has(&mut good, 1));
    assert!(put(&mut hostile, handle(1), 1).is_ok());
    assert!(has(&mut good, 1));
    let device = hostile.transport().device().clone();
    assert_eq!(device.metrics().put_pages(Status::MISMATCH), 10);
}

#[test]
fn each_page_of_a_run_is_checked_by_itself() {
    let (store, mem) = (store(), memory());
    let mut driver = with_share(&mem, &store, &host(&store));
    let (object, index) = handle(1);
    let pages = [page_of(2), page_of(1), page_of(1)];
    let answer = one_fault(&mut driver, Fault::HashMismatch, |driver| {
        driver.put(SHARE, &object, index - 1, &pages)
    });
    assert_eq!((answer.status(), answer.header().pages), (Status::OK, 1));
    let statuses = [Status::MISMATCH, Status::OK, Status::MISMATCH];
    assert_eq!(answer.pages(3), statuses);
    let got = driver.get(SHARE, &object, index - 1, 3);
    assert_eq!(got.pages(3), [Status::MISS, Status::OK, Status::MISS]);
    assert_eq!(got.page(3, 1), page_of(1));
}

#[test]
fn nobody_takes_a_page_out_of_a_verified_share() {
    let (store, mems) = (store(), [memory(), memory()]);
    let host = host(&store);
    let [mut good, mut hostile] = mems.each_ref().map(|mem| with_share(mem, &store, &host));
    assert_eq!(put(&mut good, handle(1), 1), Status::OK);
    let (object, index) = handle(1);
    let extent = Extent { index, count: 1 };
    let flushes: [&dyn Fn(&mut TestDriver<'_>) -> Answer; 4] = [
        &|driver| driver.flush(SHARE, &object, index, 1),
        &|driver| driver.flush(SHARE, &object, 0, u32::MAX),
        &|driver| driver.flush_object(SHARE, &object),
        &|driver| driver.flush_extents(SHARE, &object, &[extent, extent]),
    ];
    for flush in flushes {
        let answer = flush(&mut hostile);
        assert_eq!((answer.status(), answer.header().pages), (Status::OK, 0));
        assert!(has(&mut good, 1));
    }
    let removing = one_fault(&mut hostile, Fault::RemoveShared, |driver| {
        let layout = Layout::default();
        driver.get_as(SHARE, &object, index, 1, true, &layout)
    });
    assert_eq!(removing.status(), Status::INVALID);
    // A put whose page is outside of the VM's memory leaves it, too.
    let put = request(&header(Op::Put, SHARE, &object, index, 1), &[]);
    mems[1].write_slice(&put, GuestAddress(AREA)).unwrap();
    one_fault(&mut hostile, Fault::PageUnmapped, |driver| {
        let len = u32::try_from(put.len()).unwrap();
        let readable = [(AREA, len), (SIZE as u64, 4096)].map(|(addr, len)| Span { addr, len });
        let answer = Span {
            addr: AREA + MIB,
            len: 17,
        };
        assert_eq!(driver.call_spans(&readable, &[answer], false), 17);
    });
    let mut status = [0];
    let at = GuestAddress(AREA + MIB + 16);
    mems[1].read_slice(&mut status, at).unwrap();
    assert_eq!(Status(status[0]), Status::IO_ERROR);
    assert!(has(&mut good, 1));
    assert_eq!(hostile.destroy_pool(SHARE).status(), Status::OK);
    assert!(has(&mut good, 1));
}

#[test]
fn a_share_is_verified_for_all_or_for_none() {
    let (store, mem) = (store(), memory());
    let verified = host(&store);
    let plain = host_shares(&store, &[GOLDEN], MIB);
    let (mut driver, _) = vm(&mem, &store, &verified);
    let refused = |driver: &mut TestDriver<'_>, spec: PoolSpec, fault, status| {
        let answered = one_fault(driver, fault, |driver| driver.create_pool_as(SHARE, &spec));
        assert_eq!(answered, status);
        let got = driver.get(SHARE, &OBJECT, 0, 1);
        assert_eq!(got.status(), Status::NO_POOL);
    };
    // Who does not know of it does not find it.
    let spec = PoolSpec::shared(GOLDEN);
    refused(&mut driver, spec, Fault::NoShare, Status::NO_SHARE);
    for (kind, flags) in [(1, 3), (2, 2), (1, 2), (2, 7), (0, 3)] {
        let spec = PoolSpec {
            kind,
            flags: PoolFlags(flags),
            share: GOLDEN,
        };
        refused(
            &mut driver,
            spec,
            Fault::UnknownPoolSpec,
            Status::UNSUPPORTED,
        );
    }
    assert_eq!(driver.create_verified_pool(SHARE, GOLDEN), Status::OK);
    assert_eq!(driver.create_verified_pool(SHARE, GOLDEN), Status::EXISTS);
    let other = driver.create_verified_pool(SHARE, OTHER);
    assert_eq!(other, Status::POOL_CONFLICT);

    let mem = memory();
    let (mut driver, _) = vm(&mem, &store, &plain);
    let spec = PoolSpec::verified(GOLDEN);
    refused(&mut driver, spec, Fault::NoShare, Status::NO_SHARE);
    assert_eq!(driver.create_shared_pool(SHARE, GOLDEN), Status::OK);
}

#[test]
fn what_is_taken_away_of_verified_shares_is_gone_at_once() {
    let (store, mem) = (store(), memory());
    let (mut driver, allowed) = vm(&mem, &store, &host(&store));
    assert_eq!(driver.create_verified_pool(SHARE, GOLDEN), Status::OK);
    assert_eq!(put(&mut driver, handle(1), 1), Status::OK);
    assert!(allowed.take(&GOLDEN));
    let (object, index) = handle(1);
    let requests: [&dyn Fn(&mut TestDriver<'_>) -> Status; 4] = [
        &|driver| driver.get(SHARE, &object, index, 1).status(),
        &|driver| driver.put(SHARE, &object, index, &[page_of(1)]).status(),
        &|driver| driver.flush_object(SHARE, &object).status(),
        &|driver| driver.create_verified_pool(SHARE, GOLDEN),
    ];
    for request in requests {
        let answered = one_fault(&mut driver, Fault::NoShare, |driver| request(driver));
        assert_eq!(answered, Status::NO_SHARE);
    }
    allowed.give(GOLDEN);
    assert!(has(&mut driver, 1));
    // Each verified share has its own pages.
    assert_eq!(driver.create_verified_pool(SHARE + 1, OTHER), Status::OK);
    let got = driver.get(SHARE + 1, &object, index, 1);
    assert_eq!(got.pages(1), [Status::MISS]);
}
