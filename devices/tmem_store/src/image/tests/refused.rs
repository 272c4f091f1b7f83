// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Clients that cannot become a base: they go on as they were.

use super::*;
use crate::base::CloneError;

const LIMIT: u64 = 1 << 20;

/// A store with a client that has put pages until none is taken any more, ever smaller ones.
fn full() -> (Store, Client, BTreeMap<u64, u64>) {
    let store = Store::new(StoreConfig::with_limit(LIMIT).with_deferred_limit(0)).unwrap();
    let client = store.add_client(client_config()).unwrap();
    let config = crate::PoolConfig::new(PoolKind::Persistent);
    client.create_pool(0, config).unwrap();
    let pool = client.pool(0).unwrap();
    let mut pages = BTreeMap::new();
    for sort in [1, 2, 3] {
        // The store may find something yet: a few refusals are no end.
        let mut refused = 0;
        let mut seed = sort;
        while refused < 50 {
            match pool.put(&object(0), seed, &page(seed)).result {
                Ok(()) => drop(pages.insert(seed, seed)),
                Err(_) => refused += 1,
            }
            seed += 4;
        }
    }
    assert!(pages.len() > 100, "{} pages", pages.len());
    (store, client, pages)
}

fn has_all(client: &Client, pages: &BTreeMap<u64, u64>) {
    let pool = client.pool(0).unwrap();
    let mut found = [0; PAGE_SIZE];
    for (index, seed) in pages {
        assert_eq!(pool.get(&object(0), *index, &mut found), Get::Hit);
        assert!(found == page(*seed), "page {index} is another one");
    }
    assert_eq!(client.stats().persistent_pages, pages.len() as u64);
}

#[test]
fn without_memory_to_set_aside_a_client_goes_on_as_it_was() {
    let (store, client, pages) = full();
    let identity = client.identity();
    let committed = client.member().budget.committed();
    let base = client.to_base(|_, _| panic!("nothing of it is to be known"));
    assert!(matches!(base, Err(CloneError::NoMemory)), "{base:?}");
    assert_eq!((client.identity(), client.bases().len()), (identity, 0));
    assert_eq!(client.member().budget.committed(), committed);
    assert_eq!(store.stats().clients, 1);
    has_all(&client, &pages);
    // With memory it can be.
    let pool = client.pool(0).unwrap();
    for seed in pages.keys().take(40) {
        pool.flush(&object(0), *seed, 1);
    }
    while store.clean_some() {}
    assert!(client.to_base(|_, _| true).is_ok());
}

#[test]
fn a_client_of_which_nothing_can_be_noted_goes_on_as_it_was() {
    let store = Store::new(store_config(4 * LIMIT)).unwrap();
    let client = store.add_client(client_config()).unwrap();
    let config = crate::PoolConfig::new(PoolKind::Persistent);
    client.create_pool(0, config).unwrap();
    let pool = client.pool(0).unwrap();
    let pages: BTreeMap<u64, u64> = (0..100).map(|index| (index, index)).collect();
    for (index, seed) in &pages {
        assert_eq!(pool.put(&object(0), *index, &page(*seed)).result, Ok(()));
    }
    let identity = client.identity();
    let base = client.to_base(|_, _| false);
    assert!(matches!(base, Err(CloneError::Unnoted)), "{base:?}");
    assert_eq!((client.identity(), client.bases().len()), (identity, 0));
    has_all(&client, &pages);
    assert_eq!(pool.put(&object(0), 7, &page(8)).result, Ok(()));
    drop((pool, client));
    assert_eq!((store.held_bytes(), store.stats().clients), (0, 0));
}
