// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two well-behaved drivers on one store that is too small for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tmem_store::{Store, StoreConfig};
use vm_memory::GuestAddress;

use super::Bytes;
use super::driver::{Memory, VmDriver, content};
use super::model::ModelPool;
use super::share::{GOLDEN, NONE, POOL, Part, Share};
use crate::device::{Device, DeviceConfig};
use crate::testing::{Answer, Driver, DriverQueue, InProcess, Layout, client};
use tmem_wire::{Extent, PoolKind, Status};

const KINDS: [PoolKind; 2] = [PoolKind::Persistent, PoolKind::Ephemeral];
/// Most that is held for both VMs, and for each.
const LIMIT: u64 = 2 << 20;
const QUOTA: u64 = 1 << 20;
/// Longest history, so that one run takes milliseconds.
const MOST_STEPS: usize = 512;

struct Vm<'m> {
    device: Arc<Device>,
    driver: VmDriver<'m>,
    pools: BTreeMap<u32, ModelPool>,
    part: Part,
    frozen: bool,
}

impl<'m> Vm<'m> {
    fn new(mem: &'m Memory, store: &Store, name: &str, part: Part) -> Self {
        let config = DeviceConfig::new(name, [7; 16]);
        let device = Device::new(client(store, name, QUOTA), config);
        let device = Arc::new(device.with_shares(part.allowed.clone()));
        let queue = DriverQueue::new(mem, 0, 64, true);
        let transport = InProcess::new(mem, device.clone(), queue.device_side());
        Self {
            device,
            driver: Driver::new(mem, queue, 0x1_0000, transport),
            pools: BTreeMap::new(),
            part,
            frozen: false,
        }
    }
}

/// Runs the history that `data` stands for and checks every answer. A step
/// takes seven bytes: VM and operation, pool, object, index u16, count, seed.
pub fn histories(data: &[u8]) {
    let mut data = Bytes(data);
    let store = Store::new(StoreConfig::with_limit(LIMIT)).unwrap();
    let memory = || Memory::from_ranges(&[(GuestAddress(0), 7 << 20)]).unwrap();
    let (mem_one, mem_two) = (memory(), memory());
    let mut share = Share::new(&store);
    let mut vms = [
        Vm::new(&mem_one, &store, "one", share.part()),
        Vm::new(&mem_two, &store, "two", share.part()),
    ];
    for _ in 0..MOST_STEPS {
        if data.is_empty() {
            break;
        }
        let first = data.u8();
        let vm = &mut vms[usize::from(first >> 7)];
        step(vm, first & 0x7F, &mut data, &mut share);
    }
    for vm in &mut vms {
        let pools = std::mem::take(&mut vm.pools);
        for (id, pool) in pools {
            let removed = vm.driver.destroy_pool(id).header().pages;
            pool.removed(pool.len(), removed);
        }
        assert_eq!(vm.device.client().stats().held_bytes, 0, "bytes leaked");
    }
    share.end();
}

fn step(vm: &mut Vm<'_>, op: u8, data: &mut Bytes<'_>, share: &mut Share) {
    let id = u32::from(data.u8() % (POOL as u8 + 1));
    let object = data.u8() % 3;
    let place = data.u16();
    // Both ends of the range of indexes, and few of them, so that they meet.
    let index = match place & 0x8000 {
        0 => u64::from(place % 600),
        _ => u64::MAX - u64::from(place % 16),
    };
    let count = u32::from(data.u8() % 16) + 1;
    let seed = u64::from(data.u8());
    let name = [object; 24];
    let room = u64::MAX - index;
    let count = count.min(u32::try_from(room).unwrap_or(u32::MAX).saturating_add(1));
    if id == POOL && op & 0x40 != 0 {
        let part = &mut vm.part.is_verified_open;
        return share.verified.step(&mut vm.driver, part, op, (index, seed));
    }
    if id == POOL {
        return share_step(vm, op, share, (object, index, count, seed));
    }
    let Some(pool) = vm.pools.get_mut(&id) else {
        let kind = KINDS[usize::from(op) % 2];
        match vm.driver.create_pool(id, kind) {
            Status::OK => {
                vm.pools.insert(id, ModelPool::new(kind));
            }
            other => assert_eq!(other, Status::NO_MEMORY),
        }
        return;
    };
    let handles = (0..u64::from(count)).map(|nth| (object, index + nth));
    match op % 16 {
        0..=5 => {
            let pages: Vec<_> = (0..u64::from(count))
                .map(|nth| content(seed + nth))
                .collect();
            let put = vm.driver.put(id, &name, index, &pages);
            assert_eq!(put.status(), Status::OK);
            for ((nth, handle), status) in (0..).zip(handles).zip(put.pages(count)) {
                pool.put(handle, seed + nth, status, vm.frozen);
            }
        }
        6..=9 => {
            let remove = op % 16 == 9 && pool.kind == PoolKind::Ephemeral;
            let layout = Layout::default();
            let got = vm.driver.get_as(id, &name, index, count, remove, &layout);
            assert_eq!(got.status(), Status::OK);
            for ((nth, handle), status) in (0..).zip(handles).zip(got.pages(count)) {
                if let Some(seed) = pool.get(handle, status, remove) {
                    assert_eq!(got.page(count, nth), content(seed), "{handle:?}");
                }
            }
        }
        10 => {
            let answer = vm.driver.flush(id, &name, index, count);
            pool.flush(object, index, last(index, count), answer.header().pages);
        }
        11 => {
            let answer = vm.driver.flush_object(id, &name);
            pool.flush(object, 0, u64::MAX, answer.header().pages);
        }
        12 => {
            let extent = Extent { index, count };
            let answer = vm.driver.flush_extents(id, &name, &[extent, extent]);
            pool.flush(object, index, last(index, count), answer.header().pages);
        }
        13 => {
            let answer = vm.driver.destroy_pool(id);
            pool.removed(pool.len(), answer.header().pages);
            vm.pools.remove(&id);
        }
        14 => {
            vm.frozen = !vm.frozen;
            vm.device.set_frozen(vm.frozen);
        }
        _ => vm.device.set_quota(seed * QUOTA / 128),
    }
}

/// A step that goes to the share.
fn share_step(
    vm: &mut Vm<'_>,
    op: u8,
    share: &mut Share,
    (object, index, count, seed): (u8, u64, u32, u64),
) {
    let name = [object; 24];
    let refusal = vm.part.refusal();
    let served = |answer: &Answer| {
        assert_eq!(answer.status(), refusal.unwrap_or(Status::OK));
        refusal.is_none()
    };
    let handles = (0..u64::from(count)).map(|nth| (object, index + nth));
    match op % 16 {
        0..=4 => {
            let seeds = (0..u64::from(count)).map(|nth| seed + nth);
            let pages: Vec<_> = seeds.clone().map(content).collect();
            let put = vm.driver.put(POOL, &name, index, &pages);
            if served(&put) {
                share.put(handles.zip(seeds), &put.pages(count));
            }
        }
        5..=8 => {
            let got = vm.driver.get(POOL, &name, index, count);
            if served(&got) {
                share.get(handles, &got, count, content);
            }
        }
        9 => {
            let layout = Layout::default();
            let got = vm.driver.get_as(POOL, &name, index, count, true, &layout);
            assert_eq!(got.status(), refusal.unwrap_or(Status::INVALID));
        }
        10 => {
            let answer = vm.driver.flush(POOL, &name, index, count);
            if served(&answer) {
                share.flush(object, index, last(index, count), answer.header().pages);
            }
        }
        11 => {
            let answer = vm.driver.flush_object(POOL, &name);
            if served(&answer) {
                share.flush(object, 0, u64::MAX, answer.header().pages);
            }
        }
        12 => {
            let answer = vm.driver.destroy_pool(POOL);
            vm.part.closed(&answer);
        }
        13 => vm.part.turn(),
        14 => {
            let status = vm.driver.create_shared_pool(POOL, NONE);
            assert_eq!(status, Status::NO_SHARE);
        }
        _ => vm.part.opened(vm.driver.create_shared_pool(POOL, GOLDEN)),
    }
}

fn last(index: u64, count: u32) -> u64 {
    index + (u64::from(count) - 1)
}
