// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A flush of many ranges removes what flushes of each would, whatever their
//! order and however they overlap.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail by panicking"
)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use tmem_store::{ClientConfig, Get, PoolConfig, PoolKind, Store, StoreConfig};

/// Indices in a few blocks and stripes, and at the end of all.
fn index() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0..2000_u64,
        1 => Just(u64::MAX),
        1 => u64::MAX - 40..u64::MAX,
        1 => 1_u64 << 40..(1_u64 << 40) + 300,
    ]
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    (index(), prop_oneof![4 => 0..40_u64, 1 => any::<u64>()])
        .prop_map(|(first, more)| (first, first.saturating_add(more)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn ranges_remove_what_each_of_them_would(
        indices in prop::collection::btree_set(index(), 1..120),
        ranges in prop::collection::vec(range(), 0..40),
    ) {
        let store = Store::new(StoreConfig::with_limit(64 << 20)).unwrap();
        let client = store
            .add_client(ClientConfig::new("ranges", 64 << 20).with_max_pools(1))
            .unwrap();
        let kind = PoolKind::Persistent;
        client.create_pool(0, PoolConfig::new(kind)).unwrap();
        let pool = client.pool(0).unwrap();
        let (object, other) = ([1; 24], [2; 24]);
        for index in &indices {
            prop_assert_eq!(pool.put(&object, *index, &[3; 4096]).result, Ok(()));
            prop_assert_eq!(pool.put(&other, *index, &[4; 4096]).result, Ok(()));
        }
        let is_in = |index: &u64| ranges.iter().any(|(first, last)| (first..=last).contains(&index));
        let gone: BTreeSet<_> = indices.iter().copied().filter(|index| is_in(index)).collect();
        let removed = pool.flush_ranges(&object, &mut ranges.clone());
        prop_assert_eq!(removed, gone.len() as u64);
        let mut page = [0; 4096];
        for index in &indices {
            let expected = if gone.contains(index) { Get::Miss } else { Get::Hit };
            prop_assert_eq!(pool.get(&object, *index, &mut page), expected);
            prop_assert_eq!(pool.get(&other, *index, &mut page), Get::Hit);
        }
    }
}
