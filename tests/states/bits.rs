// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `Bits` is a set.

use crate::driver::bits::Bits;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Pages, some of them beyond the end.
const PAGES: u64 = 200;

/// Those that have a bit: the last word is whole.
const BITS: u64 = 192;

#[derive(Clone, Debug)]
enum Act {
    Set(u64, bool),
    Clear(u64, u64),
    ClearAll,
    /// Adds the bits to others, and those back.
    Move,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        20 => (0..PAGES, any::<bool>()).prop_map(|(page, value)| Act::Set(page, value)),
        5 => (0..PAGES, 0..PAGES).prop_map(|(page, count)| Act::Clear(page, count)),
        1 => Just(Act::ClearAll),
        1 => Just(Act::Move),
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
                Act::Clear(page, count) => {
                    let mut cleared = Vec::new();
                    bits.clear(page, count, |page| cleared.push(page));
                    let is_in = |at: &u64| (page..page + count).contains(at);
                    let right: Vec<_> = model.iter().copied().filter(is_in).collect();
                    prop_assert_eq!(cleared, right);
                    model.retain(|at| !is_in(at));
                }
                Act::ClearAll => {
                    bits.clear_all();
                    model.clear();
                }
                Act::Move => {
                    let mut other = Bits::new(BITS - 10).unwrap();
                    other.set(7, true);
                    other.take_all(&mut bits);
                    prop_assert_eq!(bits.next(0), None);
                    bits.take_all(&mut other);
                    model.insert(7);
                }
            }
            for page in 0..PAGES {
                prop_assert_eq!(bits.get(page), model.contains(&page));
                prop_assert_eq!(bits.next(page), model.range(page..).next().copied());
            }
        }
    }
}
