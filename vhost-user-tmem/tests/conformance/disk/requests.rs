// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests of a disk's driver (virtio 1.2, section 5.2.6), one at a time.

use std::os::unix::fs::FileExt;

use crate::front_end::FrontEnd;
use crate::request::wait_and_revive;

pub(super) const OK: u8 = 0;
pub(super) const IO_ERROR: u8 = 1;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;

/// Where a request's header, its status and its data are in guest memory.
const HEADER: u64 = 0x3000;
const STATUS: u64 = 0x3100;
const DATA: u64 = 0x6000;

/// Sectors of a block of 4 KiB.
const SECTORS: u64 = 8;

/// Lays a request out, and makes it available.
fn offer(a: &mut FrontEnd, kind: u32, block: u64, data: Option<(u32, bool)>) {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend(0u32.to_le_bytes());
    header.extend((SECTORS * block).to_le_bytes());
    a.write(HEADER, &header);
    a.write(STATUS, &[0xee]);
    let mut chain = vec![(HEADER, 16, false)];
    chain.extend(data.map(|(bytes, writable)| (DATA, bytes, writable)));
    chain.push((STATUS, 1, true));
    a.offer(&chain);
}

/// Its status, once it is used.
fn status(a: &mut FrontEnd) -> u8 {
    wait_and_revive(a);
    a.read(STATUS)
}

fn data(a: &FrontEnd, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    a.memory.read_exact_at(&mut data, DATA).unwrap();
    data
}

/// Writes a block.
pub(super) fn write(a: &mut FrontEnd, block: u64, content: &[u8]) -> u8 {
    offer_write(a, block, content);
    status(a)
}

/// Makes a write of a block available, and does not wait.
pub(super) fn offer_write(a: &mut FrontEnd, block: u64, content: &[u8]) {
    a.write(DATA, content);
    offer(a, OUT, block, Some((4096, false)));
}

/// Reads a block.
pub(super) fn read(a: &mut FrontEnd, block: u64) -> (u8, Vec<u8>) {
    a.write(DATA, &[0xcc; 4096]);
    offer(a, IN, block, Some((4096, true)));
    (status(a), data(a, 4096))
}

pub(super) fn flush(a: &mut FrontEnd) -> u8 {
    offer(a, FLUSH, 0, None);
    status(a)
}

/// Discards one block.
pub(super) fn discard(a: &mut FrontEnd, block: u64) -> u8 {
    let mut range = (SECTORS * block).to_le_bytes().to_vec();
    range.extend(8u32.to_le_bytes());
    range.extend(0u32.to_le_bytes());
    a.write(DATA, &range);
    offer(a, DISCARD, 0, Some((16, false)));
    status(a)
}

/// The disk's serial number.
pub(super) fn id(a: &mut FrontEnd) -> Vec<u8> {
    offer(a, GET_ID, 0, Some((20, true)));
    assert_eq!(status(a), OK);
    data(a, 20)
}

/// A block that repeats a byte, with its number.
pub(super) fn block(byte: u8, number: u64) -> Vec<u8> {
    let mut content = vec![byte; 4096];
    content
        .get_mut(2048..2056)
        .unwrap()
        .copy_from_slice(&number.to_le_bytes());
    content
}
