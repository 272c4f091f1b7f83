// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages of large discards become absent in parts. The narrow bounds make many bios large.

use crate::driver::parts::parts;
use crate::properties::finds;
use crate::properties::CACHE;
use crate::sys::bio::Pages;
use crate::tuning;
use crate::world::Fault;
use proptest::prelude::*;

proptest! {
    #[test]
    fn parts_are_all_of_the_pages_in_order(index in 0..100u64, count in 0..100u32) {
        let pages = Pages { index, count };
        let each: Vec<_> = parts(pages).flat_map(Pages::each).collect();
        prop_assert!(each.into_iter().eq(pages.each()));
        prop_assert!(parts(pages).all(|part| u64::from(part.count) <= tuning::EXTENT_PAGES));
    }
}

#[test]
fn pages_that_are_absent_before_tickets_are_bad_are_found() {
    finds(Fault::AbsentFirst, CACHE);
}
