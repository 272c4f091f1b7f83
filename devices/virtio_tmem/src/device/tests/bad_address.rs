// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Descriptors that point outside guest memory.

use vm_memory::Bytes;

use super::*;
use crate::testing::{Span, header, request};
use tmem_wire::{AnswerHeader, Op, RequestHeader};

const REQUEST: u64 = AREA;
const ANSWER: u64 = AREA + MIB;
const END: u64 = SIZE as u64;

/// Addresses of which at least the last byte of `len` is outside.
fn outside(len: u32) -> [u64; 5] {
    let len = u64::from(len);
    [END, END - len + 1, 1 << 40, u64::MAX - len + 1, u64::MAX]
}

fn span(addr: u64, len: u32) -> Span {
    Span { addr, len }
}

fn header_span() -> Span {
    span(REQUEST, RequestHeader::SIZE as u32)
}

fn write(mem: &Memory, header: &RequestHeader, payload: &[u8]) {
    mem.write_slice(&request(header, &[payload]), GuestAddress(REQUEST))
        .unwrap();
    mem.write_slice(&[0xA5; 65536], GuestAddress(ANSWER))
        .unwrap();
}

fn answer(mem: &Memory) -> AnswerHeader {
    let mut bytes = [0; AnswerHeader::SIZE];
    mem.read_slice(&mut bytes, GuestAddress(ANSWER)).unwrap();
    AnswerHeader::decode(&bytes)
}

#[test]
fn a_header_outside_is_invalid() {
    let mem = memory();
    let mut driver = rig(&mem);
    for addr in outside(48) {
        write(&mem, &header(Op::GetLimits, 0, &OBJECT, 0, 0), &[]);
        let used = one_fault(&mut driver, Fault::RequestUnmapped, |driver| {
            driver.call_spans(&[span(addr, 48)], &[span(ANSWER, 80)], false)
        });
        assert_eq!(used, 16);
        assert_eq!(answer(&mem).status, Status::INVALID);
    }
}

#[test]
fn an_answer_header_outside_has_no_effect_and_length_0() {
    let mem = memory();
    let mut driver = rig(&mem);
    for addr in outside(16) {
        write(
            &mem,
            &header(Op::DestroyPool, EPHEMERAL, &OBJECT, 0, 0),
            &[],
        );
        let used = one_fault(&mut driver, Fault::AnswerUnmapped, |driver| {
            driver.call_spans(&[header_span()], &[span(addr, 16)], false)
        });
        assert_eq!(used, 0);
    }
    assert_eq!(
        driver.create_pool(EPHEMERAL, PoolKind::Ephemeral),
        Status::EXISTS
    );
}

#[test]
fn page_statuses_outside_are_invalid_and_nothing_is_put() {
    let mem = memory();
    let mut driver = rig(&mem);
    for addr in outside(1) {
        write(
            &mem,
            &header(Op::Put, PERSISTENT, &OBJECT, 0, 1),
            &page_of(1),
        );
        let used = one_fault(&mut driver, Fault::DataUnmapped, |driver| {
            let readable = [header_span(), span(REQUEST + 48, 4096)];
            driver.call_spans(&readable, &[span(ANSWER, 16), span(addr, 1)], false)
        });
        assert_eq!(used, 16);
        assert_eq!(answer(&mem).status, Status::INVALID);
    }
    assert_eq!(driver.limits().persistent_pages, 0);
}

#[test]
fn a_get_whose_pages_are_outside_is_invalid_and_removes_nothing() {
    let mem = memory();
    let mut driver = rig(&mem);
    driver.put(EPHEMERAL, &OBJECT, 0, &[page_of(1), page_of(2)]);
    for addr in outside(4096) {
        let mut head = header(Op::Get, EPHEMERAL, &OBJECT, 0, 2);
        head.flags = tmem_wire::RequestFlags::REMOVE;
        write(&mem, &head, &[]);
        let used = one_fault(&mut driver, Fault::DataUnmapped, |driver| {
            let writable = [span(ANSWER, 16 + 2 + 4096), span(addr, 4096)];
            driver.call_spans(&[header_span()], &writable, false)
        });
        assert_eq!(used, 16);
        assert_eq!(answer(&mem).status, Status::INVALID);
    }
    assert_eq!(driver.limits().ephemeral_pages, 2);
}

#[test]
fn a_put_of_a_page_outside_is_an_error_of_that_page_and_removes_the_old_one() {
    let mem = memory();
    let mut driver = rig(&mem);
    for addr in outside(4096) {
        let old = [page_of(1), page_of(2), page_of(3)];
        driver.put(PERSISTENT, &OBJECT, 0, &old);
        write(
            &mem,
            &header(Op::Put, PERSISTENT, &OBJECT, 0, 3),
            &page_of(4),
        );
        let used = one_fault(&mut driver, Fault::PageUnmapped, |driver| {
            let page = span(REQUEST + 48, 4096);
            let readable = [header_span(), page, span(addr, 4096), page];
            driver.call_spans(&readable, &[span(ANSWER, 16 + 3)], false)
        });
        assert_eq!(used, 16 + 3);
        assert_eq!(answer(&mem).status, Status::OK);
        assert_eq!(answer(&mem).pages, 2);
        let mut statuses = [0; 3];
        mem.read_slice(&mut statuses, GuestAddress(ANSWER + 16))
            .unwrap();
        let replaced = Status::OK.with_prior_removed(true).0;
        let removed = Status::IO_ERROR.with_prior_removed(true).0;
        assert_eq!(statuses, [replaced, removed, replaced]);
        let got = driver.get(PERSISTENT, &OBJECT, 0, 3);
        assert_eq!(got.pages(3), [Status::OK, Status::MISS, Status::OK]);
        assert_eq!(got.page(3, 2), page_of(4));
    }
    nothing_leaks_here(&mut driver);
}

fn nothing_leaks_here(driver: &mut TestDriver<'_>) {
    driver.flush_object(PERSISTENT, &OBJECT);
    nothing_leaks(driver);
}

#[test]
fn extents_outside_are_invalid() {
    let mem = memory();
    let mut driver = rig(&mem);
    for addr in outside(16) {
        write(
            &mem,
            &header(Op::FlushExtents, PERSISTENT, &OBJECT, 0, 1),
            &[],
        );
        let used = one_fault(&mut driver, Fault::RequestUnmapped, |driver| {
            let readable = [header_span(), span(addr, 16)];
            driver.call_spans(&readable, &[span(ANSWER, 16)], false)
        });
        assert_eq!(used, 16);
        assert_eq!(answer(&mem).status, Status::INVALID);
    }
}

#[test]
fn what_is_surplus_may_be_anywhere() {
    let mem = memory();
    let mut driver = rig(&mem);
    write(&mem, &header(Op::GetLimits, 0, &OBJECT, 0, 0), &[]);
    let readable = [header_span(), span(1 << 40, 4096)];
    let writable = [span(ANSWER, 80), span(u64::MAX, u32::MAX / 2)];
    let used = driver.call_spans(&readable, &writable, false);
    assert_eq!(used, 80);
    assert_eq!(answer(&mem).status, Status::OK);
}
