// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The coherency rules of transcendent memory, one by one.

mod common;

use common::*;
use tmem_store::{Created, Get, PAGE_SIZE, PoolConfig, PoolError, PoolKind, Put, Refused};

const KINDS: [PoolKind; 2] = [PoolKind::Persistent, PoolKind::Ephemeral];
const TEXTURES: [Texture; 3] = [Texture::Same, HALF, RAW];

#[test]
fn put_get_returns_what_was_put_whatever_its_content() {
    for kind in KINDS {
        let store = store(4 * MIB);
        let client = client(&store, 4 * MIB);
        let pool = pool(&client, 0, kind);
        for (index, texture) in (0..).zip(TEXTURES) {
            assert_eq!(pool.put(&OBJECT, index, &page(9, texture)), ACCEPTED);
        }
        for (index, texture) in (0..).zip(TEXTURES) {
            assert_eq!(get(&pool, &OBJECT, index), Some(Box::new(page(9, texture))));
        }
    }
}

#[test]
fn put_put_get_never_returns_the_first() {
    for kind in KINDS {
        let store = store(4 * MIB);
        let client = client(&store, 4 * MIB);
        let pool = pool(&client, 0, kind);
        for before in TEXTURES {
            for after in TEXTURES {
                pool.flush(&OBJECT, 3, 1);
                assert_eq!(pool.put(&OBJECT, 3, &page(1, before)), ACCEPTED);
                assert_eq!(pool.put(&OBJECT, 3, &page(2, after)), REPLACED);
                assert_eq!(get(&pool, &OBJECT, 3), Some(Box::new(page(2, after))));
            }
        }
    }
}

#[test]
fn duplicate_put_that_fails_removes_the_old_copy_and_says_so() {
    let store = store(4 * MIB);
    let client = client(&store, 256 * KIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    assert_eq!(
        pool.put(&OBJECT, 1 << 40, &page(1, Texture::Same)),
        ACCEPTED
    );
    let (count, why) = fill(&pool, &OBJECT, RAW);
    assert_eq!(why, Refused::Quota);

    // A word becomes a whole page, for which there is no room.
    let put = pool.put(&OBJECT, 1 << 40, &page(2, RAW));

    let expected = Put {
        result: Err(Refused::Quota),
        prior_removed: true,
    };
    assert_eq!(put, expected);
    assert_eq!(get(&pool, &OBJECT, 1 << 40), None);
    assert_eq!(client.stats().persistent_pages, count);
    assert_eq!(client.stats().puts_refused_prior_removed, 1);
}

#[test]
fn duplicate_put_at_quota_replaces_when_the_old_memory_suffices() {
    let store = store(4 * MIB);
    let client = client(&store, 256 * KIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    let (count, _) = fill(&pool, &OBJECT, RAW);
    for index in 0..count {
        assert_eq!(pool.put(&OBJECT, index, &page(index + 1000, RAW)), REPLACED);
        let found = get(&pool, &OBJECT, index);
        assert_eq!(found, Some(Box::new(page(index + 1000, RAW))));
    }
}

#[test]
fn get_get_keeps_missing_until_the_next_put() {
    for kind in KINDS {
        let store = store(4 * MIB);
        let client = client(&store, 4 * MIB);
        let pool = pool(&client, 0, kind);
        for index in [0, 1, 15, 16, u64::MAX] {
            assert_eq!(get(&pool, &OBJECT, index), None);
            assert_eq!(get(&pool, &OBJECT, index), None);
            assert_eq!(pool.put(&OBJECT, index, &page(index, HALF)), ACCEPTED);
            assert!(get(&pool, &OBJECT, index).is_some());
        }
    }
}

#[test]
fn refused_put_is_not_found() {
    let store = store(4 * MIB);
    let client = client(&store, 256 * KIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    let (count, _) = fill(&pool, &OBJECT, RAW);
    assert_eq!(get(&pool, &OBJECT, count), None);
}

#[test]
fn persistent_page_stays_until_flushed() {
    let store = store(2 * MIB);
    let (one, other) = (client(&store, 8 * MIB), client(&store, 8 * MIB));
    let persistent = pool(&one, 0, PoolKind::Persistent);
    for index in 0..100 {
        assert_eq!(persistent.put(&OBJECT, index, &page(index, HALF)), ACCEPTED);
    }
    // Much more than there is room for.
    for client in [&one, &other] {
        let ephemeral = pool(client, 1, PoolKind::Ephemeral);
        for index in 0..2000 {
            ephemeral.put(&OBJECT, index, &page(index + 5000, RAW));
        }
    }
    for index in 0..100 {
        let found = get(&persistent, &OBJECT, index);
        assert_eq!(found, Some(Box::new(page(index, HALF))));
    }
}

#[test]
fn get_does_not_remove_and_take_does() {
    for kind in KINDS {
        let store = store(4 * MIB);
        let client = client(&store, 4 * MIB);
        let pool = pool(&client, 0, kind);
        for texture in TEXTURES {
            pool.put(&OBJECT, 5, &page(5, texture));
            assert!(get(&pool, &OBJECT, 5).is_some());
            assert!(get(&pool, &OBJECT, 5).is_some());
            let mut buffer = [0; PAGE_SIZE];
            assert_eq!(pool.take(&OBJECT, 5, &mut buffer), Get::Hit);
            assert_eq!(buffer, page(5, texture));
            assert_eq!(pool.take(&OBJECT, 5, &mut buffer), Get::Miss);
            assert_eq!(get(&pool, &OBJECT, 5), None);
        }
        assert_eq!(client.stats().taken_pages, 3);
    }
}

#[test]
fn flush_removes_the_range_and_nothing_else() {
    for kind in KINDS {
        let store = store(16 * MIB);
        let client = client(&store, 16 * MIB);
        let pool = pool(&client, 0, kind);
        // Ranges within a block, across blocks, across stripes, and long ones.
        for (first, count) in [
            (3, 1),
            (0, 16),
            (7, 20),
            (250, 12),
            (100, 700),
            (0, 1 << 40),
        ] {
            for index in 0..1000 {
                pool.put(&OBJECT, index, &page(index, Texture::Same));
                pool.put(&object(1), index, &page(index, Texture::Same));
            }
            let inside = |index: u64| index >= first && index - first < count;
            let expected = (0..1000).filter(|index| inside(*index)).count() as u64;
            assert_eq!(pool.flush(&OBJECT, first, count), expected);
            assert_eq!(pool.flush(&OBJECT, first, count), 0);
            for index in 0..1000 {
                assert_eq!(get(&pool, &OBJECT, index).is_none(), inside(index));
                assert!(get(&pool, &object(1), index).is_some());
            }
        }
    }
}

#[test]
fn flush_of_nothing_and_to_the_end_of_all_indexes() {
    let store = store(4 * MIB);
    let client = client(&store, 4 * MIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    let far = [0, u64::MAX / 2, u64::MAX - 16, u64::MAX - 1, u64::MAX];
    for index in far {
        assert_eq!(pool.put(&OBJECT, index, &page(index, HALF)), ACCEPTED);
    }
    assert_eq!(pool.flush(&OBJECT, 0, 0), 0);
    assert_eq!(pool.flush(&OBJECT, u64::MAX, 0), 0);
    assert_eq!(pool.flush(&OBJECT, u64::MAX, u64::MAX), 1);
    assert_eq!(pool.flush(&OBJECT, 1, u64::MAX), 3);
    assert_eq!(pool.flush(&OBJECT, 0, u64::MAX), 1);
    assert_eq!(client.stats().persistent_pages, 0);
}

#[test]
fn flush_object_removes_the_object_and_no_other() {
    for kind in KINDS {
        let store = store(4 * MIB);
        let client = client(&store, 4 * MIB);
        let pool = pool(&client, 0, kind);
        for index in [0, 1, 300, 1 << 30, u64::MAX] {
            for number in 0..3 {
                pool.put(&object(number), index, &page(number, Texture::Same));
            }
        }
        assert_eq!(pool.flush_object(&object(1)), 5);
        assert_eq!(pool.flush_object(&object(1)), 0);
        assert_eq!(get(&pool, &object(1), u64::MAX), None);
        assert!(get(&pool, &object(0), u64::MAX).is_some());
        assert!(get(&pool, &object(2), 300).is_some());
    }
}

#[test]
fn flush_of_a_huge_range_costs_what_is_present() {
    let store = store(4 * MIB);
    let client = client(&store, 4 * MIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    pool.put(&OBJECT, 1 << 50, &page(1, HALF));
    // Were it to look at each page or block, this would take years.
    for _ in 0..10_000 {
        assert_eq!(pool.flush(&OBJECT, 0, 1 << 50), 0);
        assert_eq!(pool.flush(&object(1), 0, u64::MAX), 0);
    }
    assert_eq!(pool.flush(&OBJECT, 0, u64::MAX), 1);
}

#[test]
fn frozen_client_has_new_puts_refused_and_all_else_done() {
    for kind in KINDS {
        let store = store(4 * MIB);
        let client = client(&store, 4 * MIB);
        let pool = pool(&client, 0, kind);
        pool.put(&OBJECT, 1, &page(1, HALF));
        pool.put(&OBJECT, 2, &page(2, HALF));
        client.set_frozen(true);
        assert!(client.is_full());

        assert_eq!(
            pool.put(&OBJECT, 3, &page(3, HALF)),
            refused(Refused::Frozen)
        );
        assert_eq!(pool.put(&OBJECT, 1, &page(4, RAW)), REPLACED);
        assert_eq!(get(&pool, &OBJECT, 1), Some(Box::new(page(4, RAW))));
        assert_eq!(pool.flush(&OBJECT, 2, 1), 1);
        assert_eq!(get(&pool, &OBJECT, 2), None);
        assert_eq!(pool.flush_object(&OBJECT), 1);
        assert_eq!(
            pool.put(&OBJECT, 1, &page(1, HALF)),
            refused(Refused::Frozen)
        );

        client.set_frozen(false);
        assert!(!client.is_full());
        assert_eq!(pool.put(&OBJECT, 3, &page(3, HALF)), ACCEPTED);
    }
}

#[test]
fn destroyed_pool_refuses_misses_and_flushes_nothing() {
    let store = store(4 * MIB);
    let client = client(&store, 4 * MIB);
    let pool = pool(&client, 2, PoolKind::Persistent);
    pool.put(&OBJECT, 1, &page(1, HALF));
    assert_eq!(client.destroy_pool(2), Some(1));

    assert_eq!(
        pool.put(&OBJECT, 1, &page(1, HALF)),
        refused(Refused::PoolGone)
    );
    assert_eq!(get(&pool, &OBJECT, 1), None);
    assert_eq!(pool.flush(&OBJECT, 0, u64::MAX), 0);
    assert_eq!(pool.flush_object(&OBJECT), 0);
    assert_eq!(client.destroy_pool(2), None);
    assert!(client.pool(2).is_none());
    assert_eq!(client.stats().held_bytes, 0);
}

#[test]
fn pool_ids_are_chosen_by_the_driver() {
    let store = store(4 * MIB);
    let client = client(&store, 4 * MIB);
    let config = PoolConfig::new;
    let (persistent, ephemeral) = (config(PoolKind::Persistent), config(PoolKind::Ephemeral));
    assert_eq!(client.create_pool(7, persistent), Ok(Created::New));
    client.pool(7).unwrap().put(&OBJECT, 0, &page(1, HALF));
    assert_eq!(client.create_pool(7, persistent), Ok(Created::Existing));
    assert_eq!(client.create_pool(7, ephemeral), Err(PoolError::Conflict));
    assert_eq!(client.create_pool(8, persistent), Err(PoolError::TooMany));
    assert_eq!(
        client.create_pool(u32::MAX, ephemeral),
        Err(PoolError::TooMany)
    );
    assert!(get(&client.pool(7).unwrap(), &OBJECT, 0).is_some());
}

#[test]
fn clients_and_pools_never_see_each_others_pages() {
    let store = store(4 * MIB);
    let clients = [client(&store, 4 * MIB), client(&store, 4 * MIB)];
    let pools: Vec<_> = clients
        .iter()
        .flat_map(|client| KINDS.map(|kind| pool(client, kind as u32, kind)))
        .collect();
    for (seed, pool) in (0..).zip(&pools) {
        assert_eq!(get(pool, &OBJECT, 5), None);
        pool.put(&OBJECT, 5, &page(seed, HALF));
    }
    for (seed, pool) in (0..).zip(&pools) {
        assert_eq!(get(pool, &OBJECT, 5), Some(Box::new(page(seed, HALF))));
    }
    assert_eq!(pools[0].flush_object(&OBJECT), 1);
    assert!(get(&pools[1], &OBJECT, 5).is_some());
    assert!(get(&pools[2], &OBJECT, 5).is_some());
}

#[test]
fn runs_do_what_single_operations_do() {
    let store = store(4 * MIB);
    let client = client(&store, 4 * MIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    pool.put(&OBJECT, 12, &page(0, HALF));
    pool.put(&OBJECT, 13, &page(0, HALF));

    let mut outcomes = Vec::new();
    pool.put_run(
        &OBJECT,
        10,
        20,
        &mut |nth, to| {
            *to = page(u64::from(nth) + 10, HALF);
            nth != 3 && nth != 4
        },
        &mut |nth, put| outcomes.push((nth, put)),
    );

    let unreadable = Put {
        result: Err(Refused::Unreadable),
        prior_removed: false,
    };
    let expected = |nth| match nth {
        2 => REPLACED,
        3 => Put {
            prior_removed: true,
            ..unreadable
        },
        4 => unreadable,
        _ => ACCEPTED,
    };
    let expected: Vec<_> = (0..20).map(|nth| (nth, expected(nth))).collect();
    assert_eq!(outcomes, expected);

    let mut found = Vec::new();
    pool.get_run(&OBJECT, 9, 22, &mut |nth, page| {
        found.push((u64::from(nth) + 9, page.unwrap().copied()));
    });
    let there = |index| (10..30).contains(&index) && index != 13 && index != 14;
    let expected: Vec<_> = (9..31)
        .map(|index| (index, there(index).then(|| page(index, HALF))))
        .collect();
    assert!(found == expected);
}

#[test]
fn runs_end_at_the_last_index() {
    let store = store(4 * MIB);
    let client = client(&store, 4 * MIB);
    let pool = pool(&client, 0, PoolKind::Persistent);
    let mut accepted = Vec::new();
    pool.put_run(&OBJECT, u64::MAX - 1, 4, &mut |_, _| true, &mut |_, put| {
        accepted.push(put.result);
    });
    let beyond = Err(Refused::Unreadable);
    assert_eq!(accepted, [Ok(()), Ok(()), beyond, beyond]);
    let mut found = Vec::new();
    pool.get_run(&OBJECT, u64::MAX - 1, 4, &mut |_, page| {
        found.push(page.unwrap().is_some());
    });
    assert_eq!(found, [true, true, false, false]);
    assert_eq!(client.stats().persistent_pages, 2);
}
