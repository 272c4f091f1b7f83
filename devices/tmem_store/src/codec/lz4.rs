// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! LZ4 blocks, by the C library: it decodes faster than what there is in Rust, and
//! `LZ4_decompress_safe` keeps its bounds whatever the bytes are.

use lz4::block::{compress_to_buffer, decompress_to_buffer};

use crate::types::{PAGE_SIZE, Page};

/// Bytes that a page may be compressed to, at most.
pub(super) const BOUND: usize = PAGE_SIZE + PAGE_SIZE / 255 + 16;

const PAGE_BYTES: i32 = 4096;
const _: () = assert!(PAGE_BYTES as usize == PAGE_SIZE);

pub(super) fn compress<'a>(page: &Page, output: &'a mut [u8; BOUND]) -> Option<&'a [u8]> {
    let len = compress_to_buffer(page, None, false, output).ok()?;
    output.get(..len)
}

/// `None` unless the bytes decode to exactly one page.
pub(super) fn decompress(bytes: &[u8], page: &mut Page) -> Option<()> {
    let len = decompress_to_buffer(bytes, Some(PAGE_BYTES), page);
    (len.ok()? == PAGE_SIZE).then_some(())
}
