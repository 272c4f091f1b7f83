// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `Sparse` is a set that takes little memory for a large disk, and never more than it may.

use crate::driver::sparse::Sparse;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// 1 TiB.
const PAGES: u64 = 1 << 28;

#[derive(Clone, Debug)]
enum Act {
    Add(u64),
    Clear(u64, u64),
    DropSome,
}

/// Often beside each other, and around the ends of leaves and nodes.
fn page() -> impl Strategy<Value = u64> {
    prop_oneof![0..200u64, 1000..1050u64, 65_500..65_560u64, 0..PAGES]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        20 => page().prop_map(Act::Add),
        5 => (page(), prop_oneof![0..200u64, 0..PAGES]).prop_map(|(page, count)| Act::Clear(page, count)),
        1 => Just(Act::DropSome),
    ]
}

proptest! {
    #[test]
    fn sparse_sets_are_sets(acts in vec(act(), 1..100), most in 0..40_000u64) {
        let mut set = Sparse::new(PAGES, most).unwrap();
        let empty = set.bytes();
        let mut model = BTreeSet::new();
        for act in acts {
            match act {
                Act::Add(page) => match set.add(page) {
                    Some(is_new) => prop_assert_eq!(is_new, model.insert(page)),
                    None => prop_assert!(!model.contains(&page)),
                },
                Act::Clear(page, count) => {
                    let mut cleared = Vec::new();
                    set.clear(page, count, |page| cleared.push(page));
                    let is_in = |at: &u64| (page..page + count).contains(at);
                    let right: Vec<_> = model.iter().copied().filter(is_in).collect();
                    prop_assert_eq!(cleared, right);
                    model.retain(|at| !is_in(at));
                }
                Act::DropSome => set.drop_some(|page| assert!(model.remove(&page))),
            }
            prop_assert!(set.bytes() <= empty + most);
            prop_assert!(set.bytes() <= Sparse::most_bytes(PAGES, most));
        }
        for page in &model {
            prop_assert!(set.has(*page));
            prop_assert!(set.skip(*page) == Some(*page));
        }
        for (first, end) in [(0, 300), (990, 1060), (1030, 70_000), (65_490, 65_540), (7, 7)] {
            let absent = (first..end).find(|page| !model.contains(page));
            prop_assert_eq!(set.next(first, end, false), absent.unwrap_or(end));
            let present = model.range(first..end).next().copied();
            prop_assert_eq!(set.next(first, end, true), present.unwrap_or(end));
        }
        let none = (0..200).chain(1000..1050).chain(65_500..65_560);
        for page in none.filter(|page| !model.contains(page)) {
            prop_assert!(!set.has(page));
        }
        set.clear(0, PAGES, |page| assert!(model.remove(&page)));
        prop_assert!(model.is_empty());
        prop_assert_eq!(set.bytes(), empty);
    }
}

#[test]
fn there_is_room_again_when_some_are_dropped() {
    let mut set = Sparse::new(PAGES, 2000).unwrap();
    let far = 1 << 20;
    let full = (0..).find(|at| set.add(at * far).is_none()).unwrap();
    assert!(full > 0);
    // A page needs a node and a leaf at most, which are those of one other page here.
    set.drop_some(|page| assert!(page < full * far));
    assert_eq!(set.add(full * far), Some(true));
}

#[test]
fn a_page_that_does_not_exist_is_not_there() {
    let mut set = Sparse::new(10, 1 << 20).unwrap();
    assert_eq!(set.add(1 << 40), None);
    assert!(!set.has(1 << 40));
    assert!(!set.take(1 << 40));
}
