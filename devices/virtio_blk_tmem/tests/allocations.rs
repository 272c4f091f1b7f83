// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a queue takes from the allocator: nothing once warm.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use tmem_store::{ClientConfig, Store, StoreConfig};
use virtio_blk_tmem::testing::{Driver, range, request};
use virtio_blk_tmem::{Disk, DiskConfig, SwapHeader};
use virtio_serve::Step;
use virtio_serve::testing::Span;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Counts per thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it is; counting
// touches a thread-local without destructor only, which never allocates.
#[expect(unsafe_code, reason = "an allocator that counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_warm_queue_does_not_allocate() {
    let mem = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 16 << 20)]).unwrap();
    let store = Store::new(StoreConfig::with_limit(64 << 20)).unwrap();
    let client = store.add_client(ClientConfig::new("vm", 2 << 20)).unwrap();
    let config = DiskConfig::new("vm", 8 << 20).with_swapspace(SwapHeader::default());
    let disk = Arc::new(Disk::new(client, config).unwrap());
    let mut driver = Driver::new(&mem, &disk, 0, 256);
    let [from, to] = driver.places();
    let mut noise = vec![0; 1 << 20];
    fastrand::Rng::with_seed(1).fill(&mut noise);
    mem.write_slice(&noise, GuestAddress(from + 4096)).unwrap();
    let span = |addr, len| Span { addr, len };
    // Type, sector, bytes sent, room; some of them are refused at the quota, or faults.
    let requests = [
        (1, 0, 1 << 20, 0),
        (1, 800, 1 << 20, 0),
        (1, 3001, 1536, 0),
        (1, 4000, 1 << 20, 0),
        (1, 8000, 1 << 20, 0),
        (0, 0, 0, 1 << 20),
        (0, 3, 0, 1536),
        (4, 0, 0, 0),
        (8, 0, 0, 20),
        (11, 0, 16, 0),
        (13, 0, 16, 0),
        (99, 0, 0, 0),
        (0, u64::MAX, 0, 512),
    ];
    let mut work = || {
        let mut allocations = 0;
        for (kind, sector, sent, room) in requests {
            let header = request(kind, sector);
            mem.write_slice(&header, GuestAddress(from)).unwrap();
            let data = match kind {
                11 | 13 => {
                    let list = range(5, 600, 0);
                    mem.write_slice(&list, GuestAddress(from + 16)).unwrap();
                    from + 16
                }
                _ => from + 4096,
            };
            let readable = [span(from, 16), span(data, sent)];
            let writable = [span(to, room), span(to + u64::from(room), 1)];
            driver.add(&readable, &writable, false).unwrap();
            let before = ALLOCATIONS.get();
            let step = driver.step(&mut || true);
            allocations += ALLOCATIONS.get() - before;
            assert!(matches!(step, Step::Used { .. }), "{step:?}");
            while driver.ring().pop_used().is_some() {}
        }
        allocations
    };
    for _ in 0..3 {
        work();
    }
    assert_eq!(work(), 0);
    let refused = disk.metrics().samples();
    let refused = refused
        .filter(|sample| sample.key == "quota")
        .map(|sample| sample.value);
    assert!(refused.sum::<u64>() > 0, "the quota is reached");
}
