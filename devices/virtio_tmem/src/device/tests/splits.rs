// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Descriptors may begin and end anywhere.

use proptest::prelude::*;

use super::*;
use crate::testing::{Layout, Span, header, request};
use tmem_wire::{Op, PAGE_SIZE};

const PAGES: u32 = 3;
const PUT_BYTES: u32 = 48 + PAGES * PAGE_SIZE as u32;
const GET_ROOM: u32 = 16 + PAGES * (1 + PAGE_SIZE as u32);

fn pages() -> Vec<[u8; PAGE_SIZE]> {
    (0..PAGES.into()).map(page_of).collect()
}

fn check(put: &Layout, get: &Layout) {
    let mem = memory();
    let mut driver = rig(&mem);
    let whole = rig_answer(&memory(), &Layout::default(), &Layout::default());
    assert_eq!(answer(&mut driver, put, get), whole);
}

fn rig_answer(mem: &Memory, put: &Layout, get: &Layout) -> Vec<(u32, Vec<u8>)> {
    answer(&mut rig(mem), put, get)
}

/// The answers to a PUT of three pages and a GET that misses the second.
fn answer(driver: &mut TestDriver<'_>, put: &Layout, get: &Layout) -> Vec<(u32, Vec<u8>)> {
    let first = driver.put_as(PERSISTENT, &OBJECT, 0, &pages(), put);
    driver.flush(PERSISTENT, &OBJECT, 1, 1);
    let second = driver.get_as(PERSISTENT, &OBJECT, 0, PAGES, false, get);
    vec![(first.used, first.bytes), (second.used, second.bytes)]
}

#[test]
fn a_request_cut_in_two_anywhere_near_a_boundary_is_the_same() {
    let near = |at: u32| (at.saturating_sub(2)..=at + 2).collect::<Vec<_>>();
    let readable = [0, 2, 4, 8, 32, 40, 48, 48 + 4096, PUT_BYTES];
    let writable = [0, 1, 8, 16, 17, 19, 19 + 4096, 19 + 8192, GET_ROOM];
    for cut in readable.into_iter().flat_map(near) {
        let put = Layout {
            readable: vec![cut],
            ..Layout::default()
        };
        check(&put, &Layout::default());
    }
    for cut in writable.into_iter().flat_map(near) {
        let layout = Layout {
            writable: vec![cut],
            ..Layout::default()
        };
        check(&layout, &layout);
    }
}

#[test]
fn descriptors_of_one_byte_and_of_none_are_the_same() {
    let mem = memory();
    let mut driver = rig(&mem);
    let put = request(&header(Op::Put, PERSISTENT, &OBJECT, 0, 1), &[&page_of(1)]);
    vm_memory::Bytes::write_slice(&mem, &put, GuestAddress(AREA)).unwrap();
    let bytes = |start: u64, count: u64| {
        (start..start + count).flat_map(|addr| {
            let empty = Span { addr: 0, len: 0 };
            [Span { addr, len: 1 }, empty]
        })
    };
    let readable: Vec<_> = bytes(AREA, put.len() as u64).collect();
    let writable: Vec<_> = bytes(AREA + MIB, 17).collect();
    // In a table, because that many do not fit into the queue.
    let used = driver.call_spans(&readable, &writable, true);
    assert_eq!(used, 17);
    assert_eq!(driver.get(PERSISTENT, &OBJECT, 0, 1).page(1, 0), page_of(1));
}

fn layouts(readable: u32, writable: u32) -> impl Strategy<Value = Layout> {
    let cuts = |len| prop::collection::vec(0..len, 0..60);
    (cuts(readable), cuts(writable), any::<bool>()).prop_map(|(readable, writable, indirect)| {
        Layout {
            readable,
            writable,
            indirect,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_split_gives_the_same_answer(
        put in layouts(PUT_BYTES, 16 + PAGES),
        get in layouts(48, GET_ROOM),
    ) {
        check(&put, &get);
    }
}
