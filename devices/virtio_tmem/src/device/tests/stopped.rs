// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Long requests that are stopped, and run again.

use tmem_store::PAGE_SIZE;
use vm_memory::Bytes;

use super::*;
use crate::device::{RequestQueue, Step};
use crate::testing::{Span, header, request};
use tmem_wire::{AnswerHeader, Op};

#[test]
fn long_requests_are_stopped_and_run_again() {
    const BLOCKS: u64 = 8192;
    for op in [Op::FlushObject, Op::FlushExtents, Op::DestroyPool] {
        let mem = memory();
        let device = device(&store(), "vm", 32 * MIB);
        let mut driver = driver(&mem, &device);
        driver.create_pool(PERSISTENT, PoolKind::Persistent);
        let pool = device.client().pool(PERSISTENT).unwrap();
        for block in 0..BLOCKS {
            let put = pool.put(&OBJECT, 16 * block, &[1; PAGE_SIZE]);
            assert_eq!(put.result, Ok(()));
        }
        let (count, extent) = match op {
            Op::FlushExtents => (1, [&0_u64.to_le_bytes()[..], &[0xff; 4], &[0; 4]].concat()),
            _ => (0, Vec::new()),
        };
        let object = if op == Op::DestroyPool {
            [0; 24]
        } else {
            OBJECT
        };
        let bytes = request(&header(op, PERSISTENT, &object, 0, count), &[&extent]);
        mem.write_slice(&bytes, GuestAddress(AREA)).unwrap();
        let mut queue = DriverQueue::new(&mem, 0x2_0000, QUEUE_SIZE, true);
        let readable = Span {
            addr: AREA,
            len: bytes.len().try_into().unwrap(),
        };
        let answer = AREA + 0x1000;
        let room = Span {
            addr: answer,
            len: 80,
        };
        queue.add(&[readable], &[room]).unwrap();

        let mut side = queue.device_side();
        let mut requests = RequestQueue::default();
        let pages = || device.client().stats().persistent_pages;
        for _ in 0..3 {
            let (before, mut asked) = (pages(), 0);
            let step = requests.step_while(&device, &mem, &mut side, &mut || {
                asked += 1;
                asked < 4
            });
            assert_eq!((step, asked), (Step::Stopped, 4), "{op:?}");
            assert!(before > pages(), "{op:?}");
        }
        assert!(pages() > BLOCKS / 4, "{op:?}: it did more than it was let");
        let left = pages();
        let step = requests.step(&device, &mem, &mut side);
        assert_eq!(step, Step::Used { notify: true }, "{op:?}");
        let mut header = [0; AnswerHeader::SIZE];
        mem.read_slice(&mut header, GuestAddress(answer)).unwrap();
        let header = AnswerHeader::decode(&header);
        assert_eq!((header.status, header.pages), (Status::OK, left), "{op:?}");
        assert_eq!(pages(), 0);
        assert_eq!(requests.step(&device, &mem, &mut side), Step::Idle);
    }
}
