// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device as a driver sees it.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of tests are small"
)]

mod bad_address;
mod bad_chain;
mod bad_request;
mod destroyed_pool;
mod events;
mod keeping;
mod latency;
mod notification;
mod races;
mod relinquish;
mod requests;
mod shares;
mod splits;
mod stopped;
mod verified;

use std::sync::Arc;

use tmem_store::{Store, StoreConfig};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::{Device, Fault};
use crate::testing::{Driver, DriverQueue, InProcess, device, page_of};
use tmem_wire::{ObjectId, PoolKind, Status};

type Memory = GuestMemoryMmap<()>;
type TestDriver<'m> = Driver<'m, Memory, InProcess<'m, Memory>>;

const OBJECT: ObjectId = [9; 24];
const SIZE: usize = 16 << 20;
/// Where the driver's own area begins; the queue lies below.
const AREA: u64 = 1 << 20;
const QUEUE_SIZE: u16 = 256;
const MIB: u64 = 1 << 20;
/// Pools 0 and 1 of [`rig`].
const PERSISTENT: u32 = 0;
const EPHEMERAL: u32 = 1;

fn memory() -> Memory {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), SIZE)]).unwrap()
}

fn store() -> Store {
    Store::new(StoreConfig::with_limit(64 * MIB)).unwrap()
}

fn driver<'m>(mem: &'m Memory, device: &Arc<Device>) -> TestDriver<'m> {
    let queue = DriverQueue::new(mem, 0, QUEUE_SIZE, true);
    let transport = InProcess::new(mem, device.clone(), queue.device_side());
    Driver::new(mem, queue, AREA, transport)
}

/// A driver whose device has a persistent and an ephemeral pool.
fn rig(mem: &Memory) -> TestDriver<'_> {
    let device = device(&store(), "vm", 32 * MIB);
    let mut driver = driver(mem, &device);
    assert_eq!(
        driver.create_pool(PERSISTENT, PoolKind::Persistent),
        Status::OK
    );
    assert_eq!(
        driver.create_pool(EPHEMERAL, PoolKind::Ephemeral),
        Status::OK
    );
    driver
}

/// What `act` returns; it must be counted as `fault` once, and the queue must
/// go on.
fn one_fault<'m, T>(
    driver: &mut TestDriver<'m>,
    fault: Fault,
    act: impl FnOnce(&mut TestDriver<'m>) -> T,
) -> T {
    let counted = |driver: &mut TestDriver<'m>| -> Vec<u64> {
        let device = driver.transport().device().clone();
        Fault::ALL
            .iter()
            .map(|fault| device.metrics().faults(*fault))
            .collect()
    };
    let before = counted(driver);
    let outcome = act(driver);
    let after = counted(driver);
    for (nth, known) in Fault::ALL.iter().enumerate() {
        let expected = u64::from(*known == fault);
        assert_eq!(after[nth] - before[nth], expected, "{known:?}");
    }
    works(driver);
    outcome
}

/// Asserts that the queue and the store work.
fn works(driver: &mut TestDriver<'_>) {
    let page = page_of(77);
    let object = [0xEE; 24];
    let put = driver.put(PERSISTENT, &object, 5, &[page]);
    assert_eq!(put.status(), Status::OK);
    assert!(put.pages(1)[0].is_ok());
    let got = driver.get(PERSISTENT, &object, 5, 1);
    assert_eq!(got.pages(1), [Status::OK]);
    assert_eq!(got.page(1, 0), page);
    assert_eq!(driver.flush(PERSISTENT, &object, 5, 1).header().pages, 1);
}

/// Destroys the pools and asserts that no page is left anywhere.
fn nothing_leaks(driver: &mut TestDriver<'_>) {
    for pool in [PERSISTENT, EPHEMERAL] {
        driver.destroy_pool(pool);
    }
    let limits = driver.limits();
    assert_eq!(limits.persistent_pages, 0);
    assert_eq!(limits.ephemeral_pages, 0);
}
