// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the fuzz target runs: a hostile driver. It stands here so that tests can replay what
//! the fuzzer found with any compiler.

use std::sync::Arc;

use tmem_store::{ClientConfig, Store, StoreConfig};
use virtio_queue::QueueT;
use virtio_serve::Step;
use virtio_serve::testing::{Bytes, DriverQueue, REGIONS, Span, hostile};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::driver::{range, request};
use crate::{BLOCK, Disk, DiskConfig, RequestQueue, SwapHeader};

const QUEUE_SIZE: u16 = 16;
const BLOCKS: u64 = 64;
/// Types of requests that are known, and one that is not.
const KINDS: [u32; 8] = [0, 1, 4, 8, 11, 13, 14, 0xffff_ffff];

/// Does to the ring what `data` says. Commands, by their first byte:
///
/// | | then |
/// |---|---|
/// | 0 to 3 | what [`hostile`] does |
/// | 4 | kick, of a device that may be asked so often to go on: u8 |
/// | 5 | header in memory: address u32, type u8, sector u64 |
/// | 6 | range in memory: address u32, sector u64, sectors u32, flags u32 |
/// | 7 | quota in KiB u16 |
/// | 8 | frozen u8 |
/// | 9 | a field of the configuration space: offset u8, value u8 |
/// | 10 | a whole request: type u8, sector u16, sectors u8, at the address u32 |
pub fn blk_chains(data: &[u8]) {
    let mut data = Bytes(data);
    let mem = GuestMemoryMmap::<()>::from_ranges(&REGIONS).unwrap();
    let store = Store::new(StoreConfig::with_limit(4 << 20)).unwrap();
    let client = store.add_client(ClientConfig::new("vm", 1 << 20)).unwrap();
    let flags = data.u8();
    let mut config = DiskConfig::new("vm", BLOCKS * BLOCK);
    if flags & 2 != 0 {
        config = config.with_swapspace(SwapHeader::default());
    }
    let disk = Arc::new(Disk::new(client, config).unwrap());
    let mut ring = DriverQueue::new(&mem, 0, QUEUE_SIZE, flags & 1 == 1);
    let mut side = ring.device_side();
    let mut queue = RequestQueue::default();
    let mut kick = |side: &mut virtio_queue::Queue, mut left: u32| {
        // A driver cannot make more available at once than the queue holds.
        for _ in 0..=QUEUE_SIZE {
            let go_on = &mut || {
                left = left.saturating_sub(1);
                left > 0
            };
            match queue.step(&disk, &mem, side, go_on) {
                Step::Used { .. } | Step::Skipped => {}
                Step::Idle | Step::Stopped | Step::Broken => return,
            }
        }
        panic!("a queue does not end");
    };
    while !data.is_empty() {
        let command = data.u8() % 11;
        if hostile(command, &mut data, &mem, &mut ring) {
            continue;
        }
        match command {
            4 => kick(&mut side, data.u8().into()),
            5 => {
                let addr = GuestAddress(data.u32().into());
                let kind = KINDS[usize::from(data.u8()) % KINDS.len()];
                let _ = mem.write_slice(&request(kind, data.u64()), addr);
            }
            6 => {
                let addr = GuestAddress(data.u32().into());
                let (sector, sectors) = (data.u64(), data.u32());
                let _ = mem.write_slice(&range(sector, sectors, data.u32()), addr);
            }
            7 => disk.set_quota(u64::from(data.u16()) << 10),
            8 => disk.set_frozen(data.u8() & 1 == 1),
            9 => {
                let offset = data.u8().into();
                disk.write_config(offset, &[data.u8()]);
                assert_eq!(disk.read_config(offset, 8).len(), 8);
            }
            _ => {
                let kind = KINDS[usize::from(data.u8()) % KINDS.len()];
                let (sector, sectors) = (data.u16(), u32::from(data.u8() % 33));
                let addr = data.u32() % 0x8000;
                let head = request(kind, sector.into());
                let _ = mem.write_slice(&head, GuestAddress(addr.into()));
                let list = range(sector.into(), sectors, 0);
                let _ = mem.write_slice(&list, GuestAddress(u64::from(addr) + 16));
                let span = |addr: u32, len| Span {
                    addr: addr.into(),
                    len,
                };
                let (sent, room) = match kind {
                    0 => (0, 512 * sectors),
                    1 => (512 * sectors, 0),
                    8 => (0, 20),
                    11 | 13 => (16, 0),
                    _ => (0, 0),
                };
                let readable = [span(addr, 16), span(addr + 16, sent)];
                let writable = [span(0x2_0000, room), span(0x2_8000, 1)];
                ring.add(&readable, &writable);
                while ring.pop_used().is_some() {}
            }
        }
    }
    kick(&mut side, u32::MAX);
    assert!(side.ready());
    let stats = disk.client().stats();
    assert!(stats.persistent_pages <= BLOCKS, "a page beyond the end");
    disk.client().destroy_pool(0);
    let stats = disk.client().stats();
    assert_eq!(
        (stats.pools, stats.persistent_pages),
        (0, 0),
        "a page leaked"
    );
    assert_eq!(stats.held_bytes, 0, "bytes leaked");
}

/// The committed corpus, as `fuzz/corpus/blk_chains/NAME`: name and bytes.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (nth, _) in KINDS.iter().enumerate() {
        for flags in [0, 3] {
            let mut bytes = vec![flags];
            // A write, then requests of this kind, in place and at the end; each with a kick.
            for (kind, sector, sectors) in [(1, 0_u16, 16), (nth, 3, 9), (nth, 0, 8), (nth, 510, 4)]
            {
                bytes.extend([10, kind as u8]);
                bytes.extend(sector.to_le_bytes());
                bytes.extend([sectors, 0, 0x20, 0, 0, 4, 255]);
            }
            seeds.push((format!("whole-request-{nth}-{flags}"), bytes));
        }
    }
    // A descriptor whose next is itself.
    let mut bytes = vec![1, 1, 0];
    bytes.extend(0x2000_u64.to_le_bytes());
    bytes.extend(16_u32.to_le_bytes());
    bytes.extend([1, 0, 0, 0, 2, 0, 0, 4, 255]);
    seeds.push(("loop".into(), bytes));
    seeds.push((
        "available-runs-ahead".into(),
        vec![1, 3, 0xFF, 0xFF, 4, 255],
    ));
    // Little quota, then writes.
    let mut bytes = vec![2, 7, 60, 0];
    for block in 0..20_u16 {
        bytes.extend([10, 1]);
        bytes.extend((8 * block).to_le_bytes());
        bytes.extend([8, 0, 0x20, 0, 0, 4, 255]);
    }
    seeds.push(("little-quota".into(), bytes));
    seeds
}
