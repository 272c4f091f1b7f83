// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pools that several VMs have.

use tmem_wire::{Capabilities, PoolFlags, PoolSpec, ShareId};

use super::*;
use crate::device::DeviceConfig;
use crate::testing::{Allowed, HostShares, Layout, client, host_shares};

const GOLDEN: ShareId = [0x60; 16];
const OTHER: ShareId = [0x61; 16];
/// The pool id of a share in most tests.
const SHARE: u32 = 9;

fn host(store: &Store) -> HostShares {
    host_shares(store, &[GOLDEN, OTHER], 8 * MIB)
}

fn device_with(store: &Store, shares: &Arc<Allowed>) -> Arc<Device> {
    let config = DeviceConfig::new("vm", [7; 16]);
    let device = Device::new(client(store, "vm", MIB), config);
    Arc::new(device.with_shares(shares.clone()))
}

/// A driver that has made the persistent pool of [`works`].
fn vm<'m>(mem: &'m Memory, store: &Store, shares: &Arc<Allowed>) -> TestDriver<'m> {
    let mut driver = driver(mem, &device_with(store, shares));
    let created = driver.create_pool(PERSISTENT, PoolKind::Persistent);
    assert_eq!(created, Status::OK);
    driver
}

fn got(driver: &mut TestDriver<'_>, pool: u32, object: &ObjectId, index: u64) -> Option<u8> {
    let answer = driver.get(pool, object, index, 1);
    assert_eq!(answer.status(), Status::OK);
    answer.pages(1)[0].is_ok().then(|| {
        let page = answer.page(1, 0);
        assert_eq!(page, page_of(page[0].into()));
        page[0]
    })
}

fn put(driver: &mut TestDriver<'_>, pool: u32, object: &ObjectId, index: u64, fill: u8) -> Status {
    let answer = driver.put(pool, object, index, &[page_of(fill.into())]);
    assert_eq!(answer.status(), Status::OK);
    answer.pages(1)[0]
}

#[test]
fn a_share_is_for_whom_it_is_and_looks_to_others_as_if_it_did_not_exist() {
    let (store, mem) = (store(), memory());
    let host = host(&store);
    let mut named = vm(&mem, &store, &Allowed::new(&host, &[GOLDEN]));
    assert_eq!(named.create_shared_pool(SHARE, GOLDEN), Status::OK);
    assert_eq!(named.create_shared_pool(SHARE, GOLDEN), Status::EXISTS);

    let mem = memory();
    let mut driver = vm(&mem, &store, &Allowed::new(&host, &[]));
    let mut refused = |share, pool| {
        one_fault(&mut driver, Fault::NoShare, |driver| {
            driver.create_shared_pool(pool, share)
        })
    };
    // The pool id does not tell either.
    for pool in [SHARE, 3] {
        for share in [GOLDEN, OTHER, [0; 16], [0xff; 16]] {
            assert_eq!(refused(share, pool), Status::NO_SHARE);
        }
    }
    for pool in [SHARE, 3] {
        assert_eq!(driver.get(pool, &OBJECT, 0, 1).status(), Status::NO_POOL);
    }
}

#[test]
fn a_device_without_shares_does_not_offer_them_and_makes_nothing_private_of_them() {
    let (store, mem) = (store(), memory());
    let with = device_with(&store, &Allowed::new(&host(&store), &[]));
    let offered = |device: &Device| device.config().capabilities;
    assert!(offered(&with).contains(Capabilities::SHARED_POOLS));

    let mut driver = rig(&mem);
    let device = driver.transport().device().clone();
    assert!(!offered(&device).contains(Capabilities::SHARED_POOLS));
    let answered = one_fault(&mut driver, Fault::UnknownPoolSpec, |driver| {
        driver.create_shared_pool(SHARE, GOLDEN)
    });
    assert_eq!(answered, Status::UNSUPPORTED);
    assert_eq!(driver.get(SHARE, &OBJECT, 0, 1).status(), Status::NO_POOL);
}

#[test]
fn a_share_is_ephemeral() {
    let (store, mem) = (store(), memory());
    let mut driver = vm(&mem, &store, &Allowed::new(&host(&store), &[GOLDEN]));
    for (kind, flags) in [(1, 1), (2, 5), (2, 1 << 31 | 1), (0, 1), (3, 1)] {
        let flags = PoolFlags(flags);
        let share = GOLDEN;
        let answered = one_fault(&mut driver, Fault::UnknownPoolSpec, |driver| {
            driver.create_pool_as(SHARE, &PoolSpec { kind, flags, share })
        });
        assert_eq!(answered, Status::UNSUPPORTED);
    }
    // Without the flag the name of the share is not looked at.
    let spec = PoolSpec {
        share: GOLDEN,
        ..PoolSpec::own(PoolKind::Ephemeral)
    };
    assert_eq!(driver.create_pool_as(SHARE, &spec), Status::OK);
    put(&mut driver, SHARE, &OBJECT, 1, 7);
    assert_eq!(driver.destroy_pool(SHARE).header().pages, 1);
}

#[test]
fn what_one_has_put_all_get_and_what_one_has_flushed_nobody() {
    let (store, mems) = (store(), [memory(), memory()]);
    let host = host(&store);
    let [mut one, mut two] = mems
        .each_ref()
        .map(|mem| vm(mem, &store, &Allowed::new(&host, &[GOLDEN])));
    assert_eq!(one.create_shared_pool(SHARE, GOLDEN), Status::OK);
    assert_eq!(two.create_shared_pool(3, GOLDEN), Status::OK);
    assert_eq!(put(&mut one, SHARE, &OBJECT, 1, 7), Status::OK);
    assert_eq!(got(&mut two, 3, &OBJECT, 1), Some(7));
    assert_eq!(got(&mut one, SHARE, &OBJECT, 1), Some(7), "none is taken");
    assert_eq!(got(&mut two, 3, &[8; 24], 1), None);
    assert!(put(&mut two, 3, &OBJECT, 1, 8).prior_removed());
    assert_eq!(got(&mut one, SHARE, &OBJECT, 1), Some(8));
    assert_eq!(one.flush(SHARE, &OBJECT, 0, 9).header().pages, 1);
    assert_eq!(got(&mut two, 3, &OBJECT, 1), None);
}

#[test]
fn what_is_taken_away_is_gone_at_once_and_may_be_asked_for_again() {
    let (store, mem) = (store(), memory());
    let host = host(&store);
    let allowed = Allowed::new(&host, &[GOLDEN]);
    let mut driver = vm(&mem, &store, &allowed);
    assert_eq!(driver.create_shared_pool(SHARE, GOLDEN), Status::OK);
    put(&mut driver, SHARE, &OBJECT, 1, 7);
    assert!(allowed.take(&GOLDEN));
    let page = [page_of(9)];
    let requests: [&dyn Fn(&mut TestDriver<'_>) -> Status; 5] = [
        &|driver| driver.get(SHARE, &OBJECT, 1, 1).status(),
        &|driver| driver.put(SHARE, &OBJECT, 1, &page).status(),
        &|driver| driver.flush(SHARE, &OBJECT, 1, 1).status(),
        &|driver| driver.flush_object(SHARE, &OBJECT).status(),
        &|driver| driver.create_shared_pool(SHARE, GOLDEN),
    ];
    for request in requests {
        let answered = one_fault(&mut driver, Fault::NoShare, |driver| request(driver));
        assert_eq!(answered, Status::NO_SHARE);
    }
    allowed.give(GOLDEN);
    assert_eq!(driver.create_shared_pool(SHARE, GOLDEN), Status::EXISTS);
    assert_eq!(got(&mut driver, SHARE, &OBJECT, 1), Some(7));
}

#[test]
fn a_share_is_apart_from_all_other_pools() {
    let (store, mem) = (store(), memory());
    let host = host(&store);
    let mut driver = vm(&mem, &store, &Allowed::new(&host, &[GOLDEN, OTHER]));
    assert_eq!(
        driver.create_pool(EPHEMERAL, PoolKind::Ephemeral),
        Status::OK
    );
    assert_eq!(driver.create_shared_pool(SHARE, GOLDEN), Status::OK);
    assert_eq!(driver.create_shared_pool(SHARE + 1, OTHER), Status::OK);
    // Neither is a pool's id taken for another's.
    for pool in [PERSISTENT, EPHEMERAL, SHARE + 1] {
        let answered = one_fault(&mut driver, Fault::PoolConflict, |driver| {
            driver.create_shared_pool(pool, GOLDEN)
        });
        assert_eq!(answered, Status::POOL_CONFLICT);
    }
    for kind in [PoolKind::Persistent, PoolKind::Ephemeral] {
        let answered = one_fault(&mut driver, Fault::PoolConflict, |driver| {
            driver.create_pool(SHARE, kind)
        });
        assert_eq!(answered, Status::POOL_CONFLICT);
    }
    for max in [64, u32::MAX] {
        let answered = one_fault(&mut driver, Fault::PoolRange, |driver| {
            driver.create_shared_pool(max, GOLDEN)
        });
        assert_eq!(answered, Status::TOO_MANY_POOLS);
    }
    let pools = [PERSISTENT, EPHEMERAL, SHARE, SHARE + 1];
    for (pool, fill) in pools.into_iter().zip(1..) {
        assert_eq!(put(&mut driver, pool, &OBJECT, 1, fill), Status::OK);
    }
    for (pool, fill) in pools.into_iter().zip(1..) {
        assert_eq!(got(&mut driver, pool, &OBJECT, 1), Some(fill));
    }
    let limits = driver.limits();
    assert_eq!((limits.persistent_pages, limits.ephemeral_pages), (1, 1));
    assert_eq!(driver.flush_object(SHARE, &OBJECT).header().pages, 1);
    assert_eq!(got(&mut driver, SHARE + 1, &OBJECT, 1), Some(4));
    // Who gets a new set of pools has no share until it asks.
    driver.transport().device().clone().renew([8; 16]);
    assert_eq!(
        driver.get(SHARE + 1, &OBJECT, 1, 1).status(),
        Status::NO_POOL
    );
}

#[test]
fn nobody_takes_a_page_from_a_share_by_reading_it() {
    let (store, mem) = (store(), memory());
    let mut driver = vm(&mem, &store, &Allowed::new(&host(&store), &[GOLDEN]));
    assert_eq!(driver.create_shared_pool(SHARE, GOLDEN), Status::OK);
    put(&mut driver, SHARE, &OBJECT, 1, 7);
    let answered = one_fault(&mut driver, Fault::RemoveShared, |driver| {
        driver
            .get_as(SHARE, &OBJECT, 1, 1, true, &Layout::default())
            .status()
    });
    assert_eq!(answered, Status::INVALID);
    assert_eq!(got(&mut driver, SHARE, &OBJECT, 1), Some(7));
}

#[test]
fn who_lets_go_of_a_share_leaves_its_pages() {
    let (store, mem) = (store(), memory());
    let mut driver = vm(&mem, &store, &Allowed::new(&host(&store), &[GOLDEN]));
    assert_eq!(driver.create_shared_pool(SHARE, GOLDEN), Status::OK);
    put(&mut driver, SHARE, &OBJECT, 1, 7);
    let destroyed = driver.destroy_pool(SHARE);
    assert_eq!(
        (destroyed.status(), destroyed.header().pages),
        (Status::OK, 0)
    );
    assert_eq!(driver.get(SHARE, &OBJECT, 1, 1).status(), Status::NO_POOL);
    assert_eq!(driver.destroy_pool(SHARE).status(), Status::NO_POOL);
    assert_eq!(driver.create_shared_pool(5, GOLDEN), Status::OK);
    assert_eq!(got(&mut driver, 5, &OBJECT, 1), Some(7));
}

#[test]
fn neither_quota_nor_freezing_of_a_vm_is_the_shares() {
    let (store, mem) = (store(), memory());
    let mut driver = vm(&mem, &store, &Allowed::new(&host(&store), &[GOLDEN]));
    assert_eq!(driver.create_shared_pool(SHARE, GOLDEN), Status::OK);
    let device = driver.transport().device().clone();
    let held = device.client().stats().held_bytes;
    device.set_quota(0);
    device.set_frozen(true);
    assert_eq!(
        put(&mut driver, PERSISTENT, &OBJECT, 1, 7).code(),
        Status::FROZEN
    );
    assert_eq!(put(&mut driver, SHARE, &OBJECT, 1, 7), Status::OK);
    assert_eq!(got(&mut driver, SHARE, &OBJECT, 1), Some(7));
    assert_eq!(device.client().stats().held_bytes, held);
}

/// The queues of a device run at the same time: a pool id is one thing or the other, for all of them.
#[test]
fn a_pool_id_that_two_queues_ask_for_is_one_thing() {
    let (store, mems) = (store(), [memory(), memory()]);
    let device = device_with(&store, &Allowed::new(&host(&store), &[GOLDEN, OTHER]));
    let [mut one, mut two] = mems.each_ref().map(|mem| driver(mem, &device));
    for round in 0..200 {
        let start = std::sync::Barrier::new(2);
        let (own, shared) = std::thread::scope(|scope| {
            let own = scope.spawn(|| {
                start.wait();
                match round % 2 {
                    0 => one.create_pool(SHARE, PoolKind::Ephemeral),
                    _ => one.create_shared_pool(SHARE, OTHER),
                }
            });
            start.wait();
            (two.create_shared_pool(SHARE, GOLDEN), own.join().unwrap())
        });
        let one_has_it = (own, shared) == (Status::OK, Status::POOL_CONFLICT);
        assert!(
            one_has_it || (own, shared) == (Status::POOL_CONFLICT, Status::OK),
            "{own:?} {shared:?}"
        );
        put(&mut two, SHARE, &OBJECT, 1, 7);
        assert_eq!(got(&mut one, SHARE, &OBJECT, 1), Some(7));
        assert_eq!(two.destroy_pool(SHARE).status(), Status::OK);
        assert_eq!(one.destroy_pool(SHARE).status(), Status::NO_POOL);
    }
}
