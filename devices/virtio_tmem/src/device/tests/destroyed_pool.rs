// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests on one queue while another queue destroys their pool.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

#[test]
fn requests_while_their_pool_is_destroyed_end_with_a_status_and_leak_nothing() {
    let device = device(&store(), "vm", 32 * MIB);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (device, done) = (&device, &done);
        scope.spawn(move || {
            let mem = memory();
            let mut driver = driver(&mem, device);
            for _ in 0..2_000 {
                let made = driver.create_pool(0, PoolKind::Persistent);
                assert!(matches!(made, Status::OK | Status::EXISTS), "{made:?}");
                assert_eq!(driver.destroy_pool(0).status(), Status::OK);
            }
            done.store(true, SeqCst);
        });
        scope.spawn(move || {
            let mem = memory();
            let mut driver = driver(&mem, device);
            let pages: Vec<_> = (0..8).map(page_of).collect();
            while !done.load(SeqCst) {
                check_put(&driver.put(0, &OBJECT, 0, &pages));
                let got = driver.get(0, &OBJECT, 0, 8);
                match got.status() {
                    Status::OK => {
                        for (nth, status) in (0..).zip(got.pages(8)) {
                            match status {
                                Status::OK => assert_eq!(got.page(8, nth), page_of(nth.into())),
                                Status::MISS => {}
                                other => panic!("{other:?}"),
                            }
                        }
                    }
                    other => assert_eq!(other, Status::NO_POOL),
                }
                let flushed = driver.flush_object(0, &OBJECT).status();
                assert!(matches!(flushed, Status::OK | Status::NO_POOL));
            }
        });
    });
    let stats = device.client().stats();
    assert_eq!((stats.pools, stats.persistent_pages), (0, 0));
}

fn check_put(put: &crate::testing::Answer) {
    if put.status() == Status::NO_POOL {
        return;
    }
    assert_eq!(put.status(), Status::OK);
    for status in put.pages(8) {
        // NO_POOL on a page: the pool went while the request ran.
        let expected = status.is_ok() || status == Status::NO_POOL;
        assert!(expected, "{status:?}");
    }
}
