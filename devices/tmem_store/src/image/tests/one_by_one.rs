// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The index made anew by threads is the one that is made page by page.

use super::*;
use crate::index::{shard_of, split};
use crate::tier::{Codec, Place, PoolTag, Scanner};

/// The client, made anew in the plain way: one page after the other, in the order in which
/// they were written.
fn client(
    recovery: &mut Recovery,
    identity: Identity,
    config: ClientConfig,
) -> Result<Client, Error> {
    let client = recovery.store.add_client(config.with_identity(identity))?;
    let mut segments = recovery.left.remove(&identity).unwrap_or_default();
    segments.sort_by_key(|segment| std::cmp::Reverse(segment.sequence()));
    let budget = &client.member().budget;
    let arena = budget.arena();
    while let Some(segment) = segments.pop() {
        let scanned = match arena.scan::<1>(segment, &mut Scanner::new(), |_, _| 0) {
            Ok(scanned) => scanned,
            Err(damaged) => {
                segments.push(damaged);
                free(&recovery.store, segments);
                return Err(Error::Damaged);
            }
        };
        let (adopted, [pages]) = budget.log.adopt(arena, scanned).unwrap();
        budget.charge_anyway(adopted.bytes);
        for page in pages.into_pages() {
            let Some(pool) = pool(&client, page.pool) else {
                budget.free_entry(page.entry);
                continue;
            };
            let (block, _) = split(page.index);
            let shard = shard_of(&page.object, block);
            pool.adopt(shard, vec![(budget.tick(), page)]).unwrap();
        }
        budget.credit_some(budget.log.adopted(arena, adopted));
    }
    Ok(client)
}

/// The pool of a page, if that is kept.
fn pool(client: &Client, tag: PoolTag) -> Option<Arc<crate::pool::Pages>> {
    let id = tag.id();
    match client.pages(id) {
        _ if id >= client.max_pools() => None,
        Some(there) if there.tag() == tag => Some(there),
        Some(there) if there.tag().made() >= tag.made() => None,
        _ => {
            client.destroy_pool(id);
            Some(client.adopt_pool(tag))
        }
    }
}

/// Seeds are not needed: each page as it is.
fn pages(client: &Client, number: u8) -> BTreeMap<Handle, Page> {
    let mut pages = BTreeMap::new();
    for (pool, object, index) in (0..3)
        .flat_map(|pool| (0..3).flat_map(move |object| (0..80).map(move |at| (pool, object, at))))
    {
        let at = (number, pool, object, index);
        if let Some(page) = get(client, at) {
            pages.insert(at, page);
        }
    }
    pages
}

/// That two clients are alike, also in what they give up first.
fn check_alike(number: u8, one: &Client, other: &Client) {
    let stats = [one, other].map(|client| {
        let mut stats = client.stats();
        // A pool that does not count may never have been made.
        stats.destroyed_pages = 0;
        stats
    });
    assert_eq!(stats[0], stats[1]);
    loop {
        let [left, right] = [one, other].map(|client| pages(client, number));
        assert!(left == right, "{:?} {:?}", left.keys(), right.keys());
        let evicted = [one, other].map(|client| {
            let mut effort = crate::reclaim::Effort::background();
            client.member().evict(&mut effort, true)
        });
        assert_eq!(evicted[0], evicted[1]);
        if evicted[0] == 0 {
            break;
        }
    }
}

fn check_plan(bytes: &[u8], limit: u64, plan: Plan) {
    let one = recovered_by(bytes, store_config(limit), client);
    let other = recovered_by(bytes, store_config(limit), |recovery, identity, config| {
        recovery.plan = plan;
        recovery.client(identity, config)
    });
    let (Some((_one, one)), Some((_other, other))) = (&one, &other) else {
        assert!(one.is_none() && other.is_none());
        return;
    };
    for (number, clients) in (0..).zip(one.iter().zip(other)) {
        match clients {
            (Some(one), Some(other)) => check_alike(number, one, other),
            (one, other) => assert!(one.is_none() && other.is_none()),
        }
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    (1..5_usize, 1..6_usize, 1..60_usize).prop_map(|(threads, batch, pages)| Plan {
        threads,
        batch,
        pages,
        worthwhile: 1,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Whenever the store ends, and however many threads there are.
    #[test]
    fn every_cut_is_made_anew_as_page_by_page(
        ops in prop::collection::vec(op(), 1..80),
        plan in plan(),
    ) {
        let mut world = World::new(LIMIT);
        world.store.arena().journal().begin();
        let mut memory = cuts::Memory::default();
        for op in &ops {
            world.apply(op);
            for note in world.notes() {
                memory.apply(&note);
                check_plan(&memory.0, LIMIT, plan);
            }
        }
    }

    /// Headers that make no sense although their checksums are right.
    #[test]
    fn headers_that_lie_are_made_anew_as_page_by_page(
        lies in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), any::<u64>()), 0..8),
        plan in plan(),
    ) {
        let (mut bytes, _) = damage::image();
        for (place, low, second) in lies {
            let segment = place.index(bytes.len() / SEGMENT);
            let range = segment * SEGMENT..(segment + 1) * SEGMENT;
            damage::lie(&mut bytes[range], place.index(60), low, second);
        }
        check_plan(&bytes, LIMIT, plan);
    }

    /// Pages of pools of one number that were made in another order than their pages were written, or
    /// at the same time.
    #[test]
    fn pools_of_one_number_are_settled_as_page_by_page(
        tags in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u32, any::<bool>(), 0..4_u64), 1..12),
        plan in plan(),
    ) {
        let (mut bytes, _) = damage::image();
        for (place, id, ephemeral, made) in tags {
            let segment = place.index(bytes.len() / SEGMENT);
            let range = segment * SEGMENT..(segment + 1) * SEGMENT;
            let kind = if ephemeral { PoolKind::Ephemeral } else { PoolKind::Persistent };
            // What a segment begins with is a name: it has the pool of the pages after it.
            let name = Word { state: State::Live, is_name: true, codec: Codec::Raw, len: 24, name: 0 };
            let name = name.live(Place { sequence: 0, offset: 0 }, 0, &[]);
            damage::lie(&mut bytes[range], 0, name, PoolTag::new(id, kind, made).word());
        }
        check_plan(&bytes, LIMIT, plan);
    }
}

/// Pools of one number come and go, and the store ends each time before their pages are freed.
#[test]
fn the_last_pool_of_a_number_counts() {
    const ROOMY: u64 = 8 * LIMIT;
    for plan in [1, 2, 5].map(|batch| Plan { batch, ..PLAN }) {
        let mut world = World::new(ROOMY);
        world.store.arena().journal().begin();
        let mut memory = cuts::Memory::default();
        let mut pages = BTreeMap::new();
        for round in 0..4 {
            for index in 0..60 {
                // Pages of another pool keep the segments in use. None compresses.
                world.apply(&Op::Put((0, 0, 0, index), 4 * (round * 60 + index) + 1));
                world.apply(&Op::Put((0, 2, 0, 20 * round + index % 20), 4 * index + 1));
            }
            world.apply(&Op::Compress(200));
            for note in world.notes() {
                memory.apply(&note);
            }
            pages.clone_from(&world.pages);
            world.apply(&Op::Destroy(0, 0));
            drop(world.notes());
            check_plan(&memory.0, ROOMY, plan);
        }
        let (_store, clients) = recovered(&memory.0, ROOMY).expect("believed");
        check(clients[0].as_ref().expect("believed"), 0, [&pages]);
    }
}
