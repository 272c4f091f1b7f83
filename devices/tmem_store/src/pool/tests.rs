// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use crate::index::{Key, split};
use crate::memory::Content;
use crate::{
    Client, ClientConfig, Get, Lost, ObjectId, PAGE_SIZE, Page, Pool, PoolConfig, PoolKind, Store,
    StoreConfig,
};

const OBJECT: ObjectId = [1; 24];

fn client() -> Client {
    let store = Store::new(StoreConfig::default()).expect("a store");
    let config = ClientConfig {
        name: String::new(),
        quota: 1 << 24,
        max_pools: 1,
    };
    store.add_client(config).expect("a client")
}

/// A page that compresses.
fn text() -> Page {
    let mut page = [b' '; PAGE_SIZE];
    for (nth, byte) in page.iter_mut().enumerate().step_by(9) {
        *byte = (nth / 7).to_le_bytes()[0];
    }
    page
}

/// Overwrites what is kept of a page.
fn damage(pool: &Pool, index: u64, with: u8) {
    let (block, nth) = split(index);
    let key = Key::new(&pool.seed, &OBJECT, block);
    pool.change(key.shard(), |change| {
        let number = change.shard.prepare(&key, 0, &mut |_| false);
        let content = change.shard.vacate(&key, nth);
        let (Ok(number), Some(Content::Slot(mut slot))) = (number, content) else {
            panic!("the page is not kept in a slot");
        };
        let garbage = vec![with; slot.len()];
        pool.account.shared.arena.fill(&mut slot, &garbage);
        let old = change.shard.put(number, nth, 0, Content::Slot(slot));
        assert_eq!(old, None);
    });
}

#[test]
fn damaged_page_is_lost_until_it_is_replaced() {
    for with in [0, 0x0f, 0xf0, 0xff] {
        let client = client();
        let config = PoolConfig {
            kind: PoolKind::Persistent,
            quota: None,
        };
        client.create_pool(0, config).expect("a pool");
        let pool = client.pool(0).expect("the pool");
        for index in 0..3 {
            assert_eq!(pool.put(&OBJECT, index, &text()).result, Ok(()));
        }
        damage(&pool, 1, with);

        let mut buffer = [0; PAGE_SIZE];
        assert_eq!(pool.get(&OBJECT, 1, &mut buffer), Get::Lost);
        let mut found = Vec::new();
        pool.get_run(&OBJECT, 0, 4, &mut |_, page| {
            found.push(page.map(|page| page.copied()));
        });
        assert!(found == [Ok(Some(text())), Err(Lost), Ok(Some(text())), Ok(None)]);
        assert_eq!(client.stats().get_lost, 2);

        assert!(pool.put(&OBJECT, 1, &text()).prior_removed);
        assert_eq!(pool.get(&OBJECT, 1, &mut buffer), Get::Hit);
        damage(&pool, 1, with);
        assert_eq!(pool.take(&OBJECT, 1, &mut buffer), Get::Lost);
        assert_eq!(pool.get(&OBJECT, 1, &mut buffer), Get::Miss);
        assert_eq!(pool.flush_object(&OBJECT), 2);
    }
}
