// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver of a VM, and the pages that it puts.

use tmem_store::Page;
use vm_memory::GuestMemoryMmap;

use crate::testing::{Driver, InProcess, page_of};

pub(super) type Memory = GuestMemoryMmap<()>;
pub(super) type VmDriver<'m> = Driver<'m, Memory, InProcess<'m, Memory>>;

/// Pages that are all the same, compress well, somewhat or not at all.
pub(super) fn content(seed: u64) -> Page {
    let mut page = page_of(seed);
    match seed % 4 {
        0 => page.fill(seed as u8),
        1 => page[16..].fill(1),
        2 => {}
        _ => {
            let mut state = seed | 1;
            for byte in &mut page {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
        }
    }
    page
}
