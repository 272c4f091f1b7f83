// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A hostile driver.

use tmem_store::{Store, StoreConfig};
use virtio_queue::QueueT;
use virtio_serve::testing::{REGIONS, hostile};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::Bytes;
use crate::device::{EventQueue, RequestQueue, Step};
use crate::testing::{DriverQueue, Span, device, header};
use tmem_wire::{EventKind, Op};

const QUEUE_SIZE: u16 = 16;
/// Where the event queue lies; the request queue is at 0.
const EVENTS: u64 = 0x1000;

/// Does to the rings what `data` says. Commands, by their first byte:
///
/// | | then |
/// |---|---|
/// | 0 to 3 | what [`hostile`] does, to the request queue |
/// | 4 | kick |
/// | 5 | request header in memory: address u32, op u8, flags u8, pool u8, object u8, index u64, count u32 |
/// | 6 | event buffer: address u32, length u16 |
/// | 7 | event: kind u8 |
/// | 8 | quota in KiB u16 |
/// | 9 | a whole request: op u8, pool u8, index u8, count u8, at the request's address u32 |
pub fn chains(data: &[u8]) {
    let mut data = Bytes(data);
    let mem = GuestMemoryMmap::<()>::from_ranges(&REGIONS).unwrap();
    let store = Store::new(StoreConfig::with_limit(4 << 20)).unwrap();
    let device = device(&store, "vm", 2 << 20);
    let event_idx = data.u8() & 1 == 1;
    let mut requests = DriverQueue::new(&mem, 0, QUEUE_SIZE, event_idx);
    let mut events = DriverQueue::new(&mem, EVENTS, QUEUE_SIZE, event_idx);
    let mut request_side = requests.device_side();
    let mut event_side = events.device_side();
    let mut request_queue = RequestQueue::default();
    let mut event_queue = EventQueue::default();
    let mut kick = |side: &mut virtio_queue::Queue| {
        // A driver cannot make more available at once than the queue holds.
        for _ in 0..=QUEUE_SIZE {
            match request_queue.step(&device, &mem, side) {
                Step::Used { .. } | Step::Skipped => {}
                Step::Idle | Step::Stopped | Step::Broken => return,
            }
        }
        assert_ne!(
            request_queue.step(&device, &mem, side),
            Step::Skipped,
            "a queue does not end"
        );
    };
    while !data.is_empty() {
        let command = data.u8() % 10;
        let is_done = hostile(command, &mut data, &mem, &mut requests);
        match command {
            _ if is_done => {}
            4 => kick(&mut request_side),
            5 => {
                let addr = GuestAddress(data.u32().into());
                let op = data.u8();
                let flags = data.u8();
                let pool = data.u8().into();
                let object = [data.u8(); 24];
                let index = data.u64();
                let mut head = header(Op::Put, pool, &object, index, data.u32());
                head.op = op.into();
                head.flags.0 = flags.into();
                let _ = mem.write_slice(&head.encode(), addr);
            }
            6 => {
                let span = Span {
                    addr: data.u32().into(),
                    len: data.u16().into(),
                };
                events.add(&[], &[span]);
                while events.pop_used().is_some() {}
            }
            7 => {
                let kinds = [EventKind::Limits, EventKind::Detach];
                device.events().raise(kinds[usize::from(data.u8() & 1)]);
            }
            8 => device.set_quota(u64::from(data.u16()) << 10),
            _ => {
                let op = Op::ALL[usize::from(data.u8()) % Op::ALL.len()];
                let pool = u32::from(data.u8() % 4);
                let index = data.u8().into();
                let head = header(op, pool, &[1; 24], index, u32::from(data.u8() % 4));
                let addr = data.u32() % 0xC000;
                let mut bytes = head.encode().to_vec();
                bytes.extend_from_slice(&(1 + pool % 2).to_le_bytes());
                let _ = mem.write_slice(&bytes, GuestAddress(addr.into()));
                let span = |addr: u32, len| Span {
                    addr: addr.into(),
                    len,
                };
                let readable = [span(addr, 48), span(addr + 48, 3 * 4096)];
                let writable = [span(0x2_0000, 16 + 3 + 3 * 4096)];
                requests.add(&readable, &writable);
                while requests.pop_used().is_some() {}
            }
        }
        for _ in 0..=QUEUE_SIZE {
            let step = event_queue.step(&device, &mem, &mut event_side);
            if matches!(step, Step::Idle | Step::Broken) {
                break;
            }
        }
    }
    kick(&mut request_side);
    assert!(request_side.ready());
    device.renew([0; 16]);
    let stats = device.client().stats();
    assert_eq!(
        (stats.pools, stats.persistent_pages, stats.ephemeral_pages),
        (0, 0, 0),
        "a page leaked"
    );
    assert_eq!(stats.held_bytes, 0, "bytes leaked");
}
