// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bytes that a driver sends.

use tmem_store::Page;

use tmem_wire::{ObjectId, Op, RequestFlags, RequestHeader};

/// A request header without flags.
pub fn header(op: Op, pool: u32, object: &ObjectId, index: u64, count: u32) -> RequestHeader {
    RequestHeader {
        op: op as u16,
        flags: RequestFlags::default(),
        pool,
        object: *object,
        index,
        count,
    }
}

/// A request's device-readable bytes.
pub fn request(header: &RequestHeader, payload: &[&[u8]]) -> Vec<u8> {
    let mut bytes = header.encode().to_vec();
    for part in payload {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// A page that only this `seed` makes: half of it compresses, half does not.
pub fn page_of(seed: u64) -> Page {
    let mut page = [0; 4096];
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    for (nth, word) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *word = if nth % 2 == 0 {
            seed.to_le_bytes()
        } else {
            state.to_le_bytes()
        };
    }
    page
}
