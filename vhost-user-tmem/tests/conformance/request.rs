// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests, from the specification of the device alone, one at a time.

use std::time::{Duration, Instant};

use crate::front_end::FrontEnd;

pub(crate) const CREATE_POOL: u16 = 1;
pub(crate) const DESTROY_POOL: u16 = 2;
pub(crate) const PUT: u16 = 3;
pub(crate) const GET: u16 = 4;
pub(crate) const FLUSH: u16 = 5;
pub(crate) const FLUSH_OBJECT: u16 = 6;
pub(crate) const FLUSH_EXTENTS: u16 = 7;
pub(crate) const GET_LIMITS: u16 = 8;

/// Statuses.
pub(crate) const OK: u8 = 0;
pub(crate) const EXISTS: u8 = 1;

/// Where a request's header, its answer and its data are in guest memory.
const HEADER: u64 = 0x3000;
pub(crate) const ANSWER: u64 = 0x4000;
pub(crate) const DATA: u64 = 0x6000;

/// A request's header, for object 0.
pub(crate) fn header(operation: u16, pool: u32, index: u64, count: u32) -> Vec<u8> {
    header_for(operation, pool, ([0; 24], index), count)
}

/// Likewise, for any object.
pub(crate) fn header_for(
    operation: u16,
    pool: u32,
    (object, index): ([u8; 24], u64),
    count: u32,
) -> Vec<u8> {
    let mut bytes = operation.to_le_bytes().to_vec();
    bytes.extend(0u16.to_le_bytes());
    bytes.extend(pool.to_le_bytes());
    bytes.extend(object);
    bytes.extend(index.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes
}

/// Runs a request of these descriptors, of which the first is its header's; its status.
pub(crate) fn run(front_end: &mut FrontEnd, header: &[u8], rest: &[(u64, u32, bool)]) -> u8 {
    front_end.write(HEADER, header);
    front_end.write(ANSWER, &[0xff; 32]);
    front_end.offer(&[&[(HEADER, 48, false)], rest].concat());
    wait_and_revive(front_end);
    front_end.read(ANSWER)
}

/// Waits until all that was offered is used, over another connection if need be.
pub(crate) fn wait_and_revive(front_end: &mut FrontEnd) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !front_end.is_idle() {
        assert!(Instant::now() < deadline, "a request is not answered");
        front_end.revive();
        std::thread::yield_now();
    }
}

/// Waits until all that was offered is used.
pub(crate) fn wait(front_end: &FrontEnd) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !front_end.is_idle() {
        assert!(Instant::now() < deadline, "a request is not answered");
        std::thread::yield_now();
    }
}

/// Kinds of pools.
pub(crate) const PERSISTENT: u32 = 1;
pub(crate) const EPHEMERAL: u32 = 2;

/// Makes a persistent pool.
pub(crate) fn create_pool(front_end: &mut FrontEnd, pool: u32) -> u8 {
    create_pool_of(front_end, pool, PERSISTENT)
}

/// Makes a pool of a kind.
pub(crate) fn create_pool_of(front_end: &mut FrontEnd, pool: u32, kind: u32) -> u8 {
    create_pool_with(front_end, pool, &kind.to_le_bytes())
}

/// Makes a pool by the first bytes of a specification; the others are zeros.
pub(crate) fn create_pool_with(front_end: &mut FrontEnd, pool: u32, spec: &[u8]) -> u8 {
    front_end.write(DATA, &[0; 32]);
    front_end.write(DATA, spec);
    let rest = [(DATA, 32, false), (ANSWER, 16, true)];
    run(front_end, &header(CREATE_POOL, pool, 0, 0), &rest)
}

/// Destroys a pool.
pub(crate) fn destroy_pool(front_end: &mut FrontEnd, pool: u32) -> u8 {
    let rest = [(ANSWER, 16, true)];
    run(front_end, &header(DESTROY_POOL, pool, 0, 0), &rest)
}

/// Puts a page that repeats a byte.
pub(crate) fn put(front_end: &mut FrontEnd, pool: u32, index: u64, byte: u8) -> u8 {
    front_end.write(DATA, &[byte; 4096]);
    put_there(front_end, pool, index)
}

/// Puts the page that is at [`DATA`].
pub(crate) fn put_there(front_end: &mut FrontEnd, pool: u32, index: u64) -> u8 {
    let rest = [(DATA, 4096, false), (ANSWER, 17, true)];
    run(front_end, &header(PUT, pool, index, 1), &rest)
}

/// Gets a page that repeats a byte: the status of the request, that of the page, and the
/// byte.
pub(crate) fn get(front_end: &mut FrontEnd, pool: u32, index: u64) -> (u8, u8, u8) {
    front_end.write(DATA, &[0; 4096]);
    let rest = [(ANSWER, 17, true), (DATA, 4096, true)];
    let status = run(front_end, &header(GET, pool, index, 1), &rest);
    (status, front_end.read(ANSWER + 16), front_end.read(DATA))
}

/// Offers GET_LIMITS with an answer of 16 and 64 bytes at this offset, and does not wait.
pub(crate) fn ask_limits(front_end: &mut FrontEnd, answer: u64) {
    front_end.write(HEADER, &header(GET_LIMITS, 0, 0, 0));
    front_end.offer(&[(HEADER, 48, false), (answer, 80, true)]);
}
