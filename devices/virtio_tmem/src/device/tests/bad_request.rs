// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests that are malformed or ask for what cannot be had.

use super::*;
use crate::testing::{Answer, Layout, header, request};
use tmem_wire::{AnswerHeader, Extent, Op, PoolFlags, PoolSpec, RequestFlags, RequestHeader};

const ROOM: usize = 16 + 256 * 4097;

fn call(driver: &mut TestDriver<'_>, header: &RequestHeader, payload: &[u8]) -> Answer {
    driver.call(&request(header, &[payload]), ROOM, &Layout::default())
}

/// Asserts that `answer` is an error and nothing but its header is written.
fn refused(answer: &Answer, status: Status) {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.used, 16);
    assert_eq!(answer.header().pages, 0);
    let rest = &answer.bytes[AnswerHeader::SIZE..];
    assert!(rest.iter().all(|byte| *byte == Answer::UNTOUCHED));
}

#[test]
fn a_truncated_header_is_invalid() {
    let mem = memory();
    let mut driver = rig(&mem);
    let whole = request(&header(Op::FlushObject, PERSISTENT, &OBJECT, 0, 0), &[]);
    for len in 0..whole.len() {
        let answer = one_fault(&mut driver, Fault::RequestShort, |driver| {
            driver.call(&whole[..len], ROOM, &Layout::default())
        });
        refused(&answer, Status::INVALID);
    }
}

#[test]
fn a_payload_that_is_one_byte_short_is_invalid_and_has_no_effect() {
    let mem = memory();
    let mut driver = rig(&mem);
    let spec = PoolSpec::own(PoolKind::Persistent).encode();
    let cases = [
        (header(Op::CreatePool, 9, &OBJECT, 0, 0), spec.to_vec()),
        (
            header(Op::Put, PERSISTENT, &OBJECT, 0, 2),
            vec![1; 2 * 4096],
        ),
        (
            header(Op::FlushExtents, PERSISTENT, &OBJECT, 0, 2),
            vec![1; 32],
        ),
    ];
    for (header, payload) in cases {
        let answer = one_fault(&mut driver, Fault::RequestShort, |driver| {
            call(driver, &header, &payload[..payload.len() - 1])
        });
        refused(&answer, Status::INVALID);
    }
    assert_eq!(driver.limits().persistent_pages, 0);
    assert_eq!(driver.get(9, &OBJECT, 0, 1).status(), Status::NO_POOL);
}

#[test]
fn an_answer_without_room_is_invalid_and_has_no_effect() {
    let mem = memory();
    let mut driver = rig(&mem);
    let page = page_of(1);
    driver.put(PERSISTENT, &OBJECT, 0, &[page]);
    let cases = [
        (header(Op::Put, PERSISTENT, &OBJECT, 7, 2), 16 + 1),
        (header(Op::Get, PERSISTENT, &OBJECT, 0, 1), 16 + 4096),
        (header(Op::Get, PERSISTENT, &OBJECT, 0, 256), 16 + 255),
        (header(Op::GetLimits, 0, &OBJECT, 0, 0), 16 + 63),
    ];
    for (header, room) in cases {
        let answer = one_fault(&mut driver, Fault::AnswerShort, |driver| {
            driver.call(&request(&header, &[&page, &page]), room, &Layout::default())
        });
        refused(&answer, Status::INVALID);
    }
    assert_eq!(driver.limits().persistent_pages, 1);
}

#[test]
fn without_room_for_an_answer_header_the_buffer_is_used_with_length_0() {
    let mem = memory();
    let mut driver = rig(&mem);
    driver.put(PERSISTENT, &OBJECT, 0, &[page_of(1)]);
    let flush = request(&header(Op::Flush, PERSISTENT, &OBJECT, 0, 1), &[]);
    for room in 0..16 {
        let answer = one_fault(&mut driver, Fault::AnswerMissing, |driver| {
            driver.call(&flush, room, &Layout::default())
        });
        assert_eq!(answer.used, 0);
        assert!(answer.bytes.iter().all(|byte| *byte == Answer::UNTOUCHED));
    }
    assert_eq!(driver.limits().persistent_pages, 1, "nothing was flushed");
}

#[test]
fn a_count_of_0_is_invalid() {
    let mem = memory();
    let mut driver = rig(&mem);
    for op in [Op::Put, Op::Get, Op::Flush, Op::FlushExtents] {
        let answer = one_fault(&mut driver, Fault::CountZero, |driver| {
            call(driver, &header(op, PERSISTENT, &OBJECT, 0, 0), &[0; 4096])
        });
        refused(&answer, Status::INVALID);
    }
}

#[test]
fn a_count_above_the_limit_is_too_long_and_nothing_is_read() {
    let mem = memory();
    let mut driver = rig(&mem);
    for op in [Op::Put, Op::Get, Op::FlushExtents] {
        for count in [257, 1 << 20, u32::MAX] {
            let answer = one_fault(&mut driver, Fault::TooLong, |driver| {
                call(driver, &header(op, PERSISTENT, &OBJECT, 0, count), &[])
            });
            refused(&answer, Status::TOO_LONG);
        }
    }
}

#[test]
fn a_flush_of_any_count_is_done_at_the_cost_of_what_is_there() {
    let mem = memory();
    let mut driver = rig(&mem);
    driver.put(PERSISTENT, &OBJECT, 1 << 31, &[page_of(1)]);
    for _ in 0..10_000 {
        driver.flush(PERSISTENT, &OBJECT, 1 << 32, u32::MAX);
    }
    let answer = driver.flush(PERSISTENT, &OBJECT, 0, u32::MAX);
    assert_eq!(answer.header().pages, 1);
}

#[test]
fn the_last_index_works_and_one_beyond_is_invalid() {
    let mem = memory();
    let mut driver = rig(&mem);
    let put = driver.put(PERSISTENT, &OBJECT, u64::MAX, &[page_of(1)]);
    assert_eq!(put.pages(1), [Status::OK]);
    let got = driver.get(PERSISTENT, &OBJECT, u64::MAX, 1);
    assert_eq!(got.page(1, 0), page_of(1));
    for op in [Op::Put, Op::Get, Op::Flush] {
        let answer = one_fault(&mut driver, Fault::IndexRange, |driver| {
            let header = header(op, PERSISTENT, &OBJECT, u64::MAX, 2);
            call(driver, &header, &[0; 8192])
        });
        refused(&answer, Status::INVALID);
    }
    assert_eq!(
        driver
            .flush(PERSISTENT, &OBJECT, u64::MAX, 1)
            .header()
            .pages,
        1
    );
}

#[test]
fn one_malformed_extent_keeps_all_from_being_flushed() {
    let mem = memory();
    let mut driver = rig(&mem);
    driver.put(PERSISTENT, &OBJECT, 0, &[page_of(1)]);
    let good = Extent { index: 0, count: 1 };
    let cases = [
        (Extent { index: 5, count: 0 }, Fault::CountZero),
        (
            Extent {
                index: u64::MAX,
                count: 2,
            },
            Fault::IndexRange,
        ),
    ];
    for (bad, fault) in cases {
        let answer = one_fault(&mut driver, fault, |driver| {
            driver.flush_extents(PERSISTENT, &OBJECT, &[good, bad])
        });
        refused(&answer, Status::INVALID);
    }
    assert_eq!(driver.limits().persistent_pages, 1);
}

#[test]
fn an_unknown_operation_is_unsupported() {
    let mem = memory();
    let mut driver = rig(&mem);
    for op in (0..=u16::MAX)
        .filter(|op| Op::from_wire(*op).is_none())
        .step_by(97)
    {
        let mut header = header(Op::Put, PERSISTENT, &OBJECT, 0, 1);
        header.op = op;
        let answer = one_fault(&mut driver, Fault::UnknownOp, |driver| {
            call(driver, &header, &[])
        });
        refused(&answer, Status::UNSUPPORTED);
    }
}

#[test]
fn an_unknown_flag_is_unsupported() {
    let mem = memory();
    let mut driver = rig(&mem);
    for op in Op::ALL {
        let bits = (0..16).map(|bit| 1 << bit);
        for flags in bits.filter(|bit| op != Op::Get || *bit != RequestFlags::REMOVE.0) {
            let mut header = header(op, PERSISTENT, &OBJECT, 0, 1);
            header.flags = RequestFlags(flags);
            let answer = one_fault(&mut driver, Fault::UnknownFlag, |driver| {
                call(driver, &header, &[0; 4096])
            });
            refused(&answer, Status::UNSUPPORTED);
        }
    }
}

#[test]
fn an_unknown_pool_kind_or_flag_is_unsupported_and_makes_no_pool() {
    let mem = memory();
    let mut driver = rig(&mem);
    for (kind, flags) in [(0, 0), (3, 0), (u32::MAX, 0), (1, 1), (2, 1 << 31)] {
        let flags = PoolFlags(flags);
        let spec = PoolSpec {
            kind,
            flags,
            ..PoolSpec::shared([7; 16])
        }
        .encode();
        let answer = one_fault(&mut driver, Fault::UnknownPoolSpec, |driver| {
            call(driver, &header(Op::CreatePool, 9, &OBJECT, 0, 0), &spec)
        });
        refused(&answer, Status::UNSUPPORTED);
        assert_eq!(driver.get(9, &OBJECT, 0, 1).status(), Status::NO_POOL);
    }
}

#[test]
fn an_unknown_pool_is_said_to_be() {
    let mem = memory();
    let mut driver = rig(&mem);
    let extent = Extent { index: 0, count: 1 }.encode();
    let mut payload = extent.to_vec();
    payload.resize(4096, 0);
    for op in [
        Op::Put,
        Op::Get,
        Op::Flush,
        Op::FlushObject,
        Op::FlushExtents,
        Op::DestroyPool,
    ] {
        for pool in [2, 63, 64, u32::MAX] {
            let answer = one_fault(&mut driver, Fault::UnknownPool, |driver| {
                call(driver, &header(op, pool, &OBJECT, 0, 1), &payload)
            });
            refused(&answer, Status::NO_POOL);
        }
    }
}

#[test]
fn pools_conflict_and_have_a_limit() {
    let mem = memory();
    let mut driver = rig(&mem);
    let status = one_fault(&mut driver, Fault::PoolConflict, |driver| {
        driver.create_pool(PERSISTENT, PoolKind::Ephemeral)
    });
    assert_eq!(status, Status::POOL_CONFLICT);
    for id in [64, u32::MAX] {
        let status = one_fault(&mut driver, Fault::PoolRange, |driver| {
            driver.create_pool(id, PoolKind::Ephemeral)
        });
        assert_eq!(status, Status::TOO_MANY_POOLS);
    }
    assert_eq!(driver.create_pool(63, PoolKind::Ephemeral), Status::OK);
}

#[test]
fn a_removing_get_from_a_persistent_pool_is_invalid_and_removes_nothing() {
    let mem = memory();
    let mut driver = rig(&mem);
    driver.put(PERSISTENT, &OBJECT, 0, &[page_of(1)]);
    let answer = one_fault(&mut driver, Fault::RemovePersistent, |driver| {
        driver.get_as(PERSISTENT, &OBJECT, 0, 1, true, &Layout::default())
    });
    refused(&answer, Status::INVALID);
    assert_eq!(driver.limits().persistent_pages, 1);
}

#[test]
fn a_duplicate_put_that_runs_out_of_memory_removes_the_old_page() {
    let mem = memory();
    let quota = MIB;
    let mut driver = driver(&mem, &device(&store(), "vm", quota));
    driver.create_pool(PERSISTENT, PoolKind::Persistent);
    // Pages of one repeated word take almost nothing, so that many fit.
    let count = 512;
    for index in 0..count {
        let put = driver.put(PERSISTENT, &OBJECT, index, &[[index as u8; 4096]]);
        assert_eq!(put.pages(1), [Status::OK]);
    }
    let mut refused = 0;
    for index in 0..count {
        let page = page_of(1000 + index);
        let status = driver.put(PERSISTENT, &OBJECT, index, &[page]).pages(1)[0];
        let got = driver.get(PERSISTENT, &OBJECT, index, 1);
        assert!(status.prior_removed(), "page {index}: {status:?}");
        if status.is_ok() {
            assert_eq!(got.page(1, 0), page);
        } else {
            assert_eq!(status.code(), Status::QUOTA);
            assert_eq!(got.pages(1), [Status::MISS]);
            refused += 1;
        }
    }
    assert!(refused > 0, "2 MiB do not fit into 1 MiB");
    nothing_leaks(&mut driver);
}
