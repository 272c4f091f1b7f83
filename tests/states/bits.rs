// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `Bits` is a set.

use crate::driver::bits::Bits;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Pages, some of them beyond the end. More than one word of words.
const PAGES: u64 = 3 * 4096 + 300;

/// Those that have a bit: the last word is whole.
const BITS: u64 = 3 * 4096 + 192;

#[derive(Clone, Debug)]
enum Act {
    Set(u64, bool),
    Add(u64, u32),
    Clear(u64, u64),
}

/// Often beside each other.
fn page() -> impl Strategy<Value = u64> {
    prop_oneof![0..200u64, 4096 - 70..4096 + 70u64, 0..PAGES]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        20 => (page(), any::<bool>()).prop_map(|(page, value)| Act::Set(page, value)),
        10 => (page(), 0..=64u32).prop_map(|(page, count)| Act::Add(page, count)),
        5 => (page(), prop_oneof![0..200u64, 0..PAGES]).prop_map(|(page, count)| Act::Clear(page, count)),
    ]
}

proptest! {
    #[test]
    fn bits_are_a_set(acts in vec(act(), 1..100)) {
        let mut bits = Bits::new(BITS - 10).unwrap();
        let mut model = BTreeSet::new();
        for act in acts {
            match act {
                Act::Set(page, value) => {
                    let changes = page < BITS && model.contains(&page) != value;
                    prop_assert_eq!(bits.set(page, value), changes);
                    if value && page < BITS {
                        model.insert(page);
                    } else {
                        model.remove(&page);
                    }
                }
                Act::Add(page, count) => {
                    let count = count.min(64 - (page % 64) as u32);
                    let before = bits.add(page, count);
                    for at in 0..count {
                        let page = page + u64::from(at);
                        let was_there = page < BITS && !model.insert(page);
                        prop_assert_eq!(before >> at & 1 != 0, was_there);
                    }
                    prop_assert_eq!(before.checked_shr(count).unwrap_or(0), 0);
                    model.retain(|page| *page < BITS);
                }
                Act::Clear(page, count) => {
                    let mut cleared = Vec::new();
                    bits.clear(page, count, |page| cleared.push(page));
                    let is_in = |at: &u64| (page..page + count).contains(at);
                    let right: Vec<_> = model.iter().copied().filter(is_in).collect();
                    prop_assert_eq!(cleared, right);
                    model.retain(|at| !is_in(at));
                }
            }
        }
        for page in 0..PAGES {
            prop_assert_eq!(bits.get(page), model.contains(&page));
            prop_assert_eq!(bits.next(page), model.range(page..).next().copied());
        }
    }
}
