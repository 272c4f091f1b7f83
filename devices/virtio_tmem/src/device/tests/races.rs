// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver that changes a request while it runs.

use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::Bytes;

use super::*;
use crate::testing::{Span, header, request};
use tmem_wire::{AnswerHeader, Limits, Op, PAGE_SIZE};

/// Answers at least, each to a request whose operation flickers.
const REQUESTS: usize = 5000;

/// Ends the other thread also when this one panics.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_request_that_changes_while_it_runs_is_one_of_its_versions() {
    let mem = memory();
    let mut driver = rig(&mem);
    let stop = AtomicBool::new(false);
    let get = request(&header(Op::Get, PERSISTENT, &OBJECT, 0, 1), &[]);
    let readable = [Span {
        addr: AREA,
        len: get.len() as u32,
    }];
    let writable = [Span {
        addr: AREA + MIB,
        len: (AnswerHeader::SIZE + 1 + PAGE_SIZE) as u32,
    }];
    let page = request(&header(Op::Put, PERSISTENT, &OBJECT, 0, 1), &[&page_of(7)]);
    mem.write_slice(&page, GuestAddress(AREA)).unwrap();
    let whole = [Span {
        addr: AREA,
        len: page.len() as u32,
    }];
    driver.call_spans(&whole, &writable, false);
    mem.write_slice(&get, GuestAddress(AREA)).unwrap();

    let as_get = (AnswerHeader::SIZE + 1 + PAGE_SIZE) as u32;
    let as_limits = (AnswerHeader::SIZE + Limits::SIZE) as u32;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let ops = [Op::Get as u8, Op::GetLimits as u8];
            for op in ops.into_iter().cycle() {
                mem.write_obj(op, GuestAddress(AREA)).unwrap();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let _stop = StopAtEnd(&stop);
        let mut seen = [0; 2];
        // Both versions must have been met, or nothing was shown.
        while seen.iter().sum::<usize>() < REQUESTS || seen.contains(&0) {
            let used = driver.call_spans(&readable, &writable, false);
            let status: u8 = mem.read_obj(GuestAddress(AREA + MIB)).unwrap();
            assert_eq!(Status(status), Status::OK);
            let version = [as_get, as_limits].iter().position(|len| *len == used);
            seen[version.expect("an answer to either version")] += 1;
        }
    });
}
