// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The header of a swap disk, as mkswap(8) writes it and Linux reads it: `union swap_header`
//! of include/linux/swap.h, in pages of 4 KiB.

use tmem_store::{PAGE_SIZE, Page};

use crate::config::SwapHeader;

/// Where the fields are.
const VERSION: usize = 1024;
const LAST_PAGE: usize = 1028;
const UUID: usize = 1036;
const LABEL: usize = 1052;
const LABEL_BYTES: usize = 16;
const SIGNATURE: &[u8; 10] = b"SWAPSPACE2";

/// The header of a disk of so many blocks. Drivers of little-endian guests read it.
pub(crate) fn page(header: &SwapHeader, blocks: u64) -> Box<Page> {
    let mut page = Box::new([0; PAGE_SIZE]);
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = page.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    let last = u32::try_from(blocks.saturating_sub(1)).unwrap_or(u32::MAX);
    put(VERSION, &1_u32.to_le_bytes());
    put(LAST_PAGE, &last.to_le_bytes());
    put(UUID, &header.uuid);
    let label = header.label.as_bytes();
    put(LABEL, label.get(..LABEL_BYTES).unwrap_or(label));
    put(PAGE_SIZE - SIGNATURE.len(), SIGNATURE);
    page
}
