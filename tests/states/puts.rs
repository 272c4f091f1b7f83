// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `Puts` is a map with a bound.

use crate::driver::blocks::{Blocks, Limits};
use crate::driver::puts::Puts;
use crate::driver::ticket::Ticket;
use crate::sys::bio::Pages;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

const MOST: usize = 5;

/// Tickets, each another one.
fn tickets() -> impl Iterator<Item = Ticket> {
    let limits = Limits {
        seen: 0,
        present: 0,
        buckets: 1,
        is_shared: false,
    };
    let mut blocks = Blocks::new(1, limits).unwrap();
    let page = Pages { index: 0, count: 1 };
    std::iter::from_fn(move || {
        blocks.begin_write(page);
        blocks.end_write(page);
        blocks.look(page).ticket()
    })
}

proptest! {
    // Pages that share places, and that would be at the end of the table.
    #[test]
    fn puts_are_a_map(acts in vec((any::<bool>(), prop_oneof![0..40u64, Just(u64::MAX)]), 1..100)) {
        let mut puts = Puts::new(MOST).unwrap();
        let mut model = BTreeMap::new();
        for ((adds, page), ticket) in acts.into_iter().zip(tickets()) {
            if adds {
                let can = model.len() < MOST && !model.contains_key(&page);
                prop_assert_eq!(puts.add(page, ticket), can);
                if can {
                    model.insert(page, ticket);
                }
            } else {
                puts.remove(page);
                model.remove(&page);
            }
            for page in (0..40).chain([u64::MAX]) {
                prop_assert_eq!(puts.get(page), model.get(&page).copied());
            }
        }
    }
}
