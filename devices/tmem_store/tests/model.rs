// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Long random histories of two clients against a model that is a plain map.

#![allow(clippy::panic, clippy::indexing_slicing, clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::*;
use proptest::collection::vec;
use proptest::prelude::*;
use tmem_store::{
    Client, Compression, Created, Get, PAGE_SIZE, Pool, PoolConfig, PoolError, PoolKind, Put,
    Refused, Store,
};

/// Two pools of each kind for each client.
const KINDS: [PoolKind; 4] = [
    PoolKind::Persistent,
    PoolKind::Ephemeral,
    PoolKind::Persistent,
    PoolKind::Ephemeral,
];

/// What the store keeps free, to move and recompress pages when all else is used up.
const RESERVE: u64 = 288 * KIB;

/// What new pages that keep older ones leave of a quota.
fn reserve(quota: u64) -> u64 {
    (quota / 32 + 256 * KIB).min(quota / 2)
}

/// Bytes by which segments are backed.
const PIECE: u64 = 16 * KIB;

/// Most that one put may need beyond what was held before: a piece of a segment,
/// chunks of the index, tables that double; and what the background thread takes
/// meanwhile, which compresses pages before their segment comes back.
fn step() -> u64 {
    let meanwhile = if mode() == Mode::Background { 128 } else { 0 };
    (33 + 16 + meanwhile) * KIB
}

#[derive(Clone, Debug)]
enum Op {
    Put {
        at: At,
        seed: u64,
        texture: Texture,
        /// An older page stays if this one is refused.
        keeps: bool,
    },
    PutRun {
        at: At,
        count: u32,
        seed: u64,
        texture: Texture,
    },
    Get {
        at: At,
    },
    GetRun {
        at: At,
        count: u32,
    },
    Take {
        at: At,
    },
    Flush {
        at: At,
        count: u64,
    },
    FlushObject {
        at: At,
    },
    Destroy {
        client: usize,
        pool: u32,
    },
    Freeze {
        client: usize,
        frozen: bool,
    },
    Quota {
        client: usize,
        bytes: u64,
    },
    Restart {
        client: usize,
    },
    Compression {
        client: usize,
        compression: Compression,
    },
    /// Cold pages are recompressed after each step from here on, or no more. Deferred pages are
    /// compressed and segments cleaned after each one.
    Recompress {
        on: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct At {
    client: usize,
    pool: u32,
    object: u64,
    index: u64,
}

fn at() -> impl Strategy<Value = At> {
    let index = prop_oneof![
        6 => 0..64_u64,
        3 => 240..280_u64,
        2 => 0..4096_u64,
        1 => (1 << 40)..(1 << 40) + 20_u64,
        1 => u64::MAX - 20..=u64::MAX,
    ];
    (0..2_usize, 0..4_u32, 0..3_u64, index).prop_map(|(client, pool, object, index)| At {
        client,
        pool,
        object,
        index,
    })
}

fn texture() -> impl Strategy<Value = Texture> {
    prop_oneof![
        1 => Just(Texture::Same),
        4 => (0..=16_u8).prop_map(Texture::Sixteenths),
        2 => Just(RAW),
        3 => Just(Texture::Digits),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let count = prop_oneof![0..40_u64, 0..5000_u64, any::<u64>(), Just(u64::MAX)];
    prop_oneof![
        6 => (at(), any::<u64>(), texture(), any::<bool>())
            .prop_map(|(at, seed, texture, keeps)| Op::Put { at, seed, texture, keeps }),
        6 => (at(), 0..80_u32, any::<u64>(), texture())
            .prop_map(|(at, count, seed, texture)| Op::PutRun { at, count, seed, texture }),
        6 => at().prop_map(|at| Op::Get { at }),
        3 => (at(), 0..80_u32).prop_map(|(at, count)| Op::GetRun { at, count }),
        2 => at().prop_map(|at| Op::Take { at }),
        3 => (at(), count).prop_map(|(at, count)| Op::Flush { at, count }),
        1 => at().prop_map(|at| Op::FlushObject { at }),
        1 => (0..2_usize, 0..4_u32).prop_map(|(client, pool)| Op::Destroy { client, pool }),
        1 => (0..2_usize, any::<bool>()).prop_map(|(client, frozen)| Op::Freeze { client, frozen }),
        1 => (0..2_usize, 0..=2 * MIB).prop_map(|(client, bytes)| Op::Quota { client, bytes }),
        1 => (0..2_usize).prop_map(|client| Op::Restart { client }),
        1 => (0..2_usize, 0..3_usize).prop_map(|(client, nth)| Op::Compression {
            client,
            compression: Compression::ALL[nth],
        }),
        1 => any::<bool>().prop_map(|on| Op::Recompress { on }),
    ]
}

/// A client and what must be in its pools. An ephemeral page may be missing
/// from the store, but then it is missing from the first miss on.
struct Guest {
    client: Client,
    frozen: bool,
    quota: u64,
    /// Texture and seed by pool, object and index.
    pages: BTreeMap<(u32, u64, u64), (u64, Texture)>,
}

impl Guest {
    fn new(store: &Store, quota: u64) -> Self {
        Self {
            client: client(store, quota),
            frozen: false,
            quota,
            pages: BTreeMap::new(),
        }
    }

    fn count(&self, kind: PoolKind) -> u64 {
        let pools = self.pages.keys().map(|(pool, ..)| KINDS[*pool as usize]);
        pools.filter(|of| *of == kind).count() as u64
    }

    /// The pages `first..=last` of an object leave the model.
    fn forget(&mut self, at: At, first: u64, last: u64) -> u64 {
        let before = self.pages.len();
        self.pages.retain(|(pool, object, index), _| {
            *pool != at.pool || *object != at.object || *index < first || *index > last
        });
        (before - self.pages.len()) as u64
    }
}

struct World {
    store: TestStore,
    recompresses: bool,
    guests: [Guest; 2],
}

impl World {
    fn new(limit: u64, quotas: [u64; 2]) -> Self {
        let store = store(limit);
        let guests = quotas.map(|quota| Guest::new(&store, quota));
        Self {
            store,
            recompresses: true,
            guests,
        }
    }

    /// The pool, made if it is not there; `None` if it cannot be made.
    fn pool(&self, client: usize, id: u32) -> Option<Pool> {
        let guest = &self.guests[client];
        let kind = KINDS[id as usize];
        // One pool of each client has a quota of its own.
        let quota = (id == 2).then_some(200 * KIB);
        let there = guest.client.pool(id).is_some();
        match guest
            .client
            .create_pool(id, PoolConfig::new(kind).with_quota(quota))
        {
            Ok(Created::Existing) => assert!(there),
            Ok(Created::New) => assert!(!there),
            Err(why) => {
                assert_eq!(why, PoolError::NoMemory);
                assert!(!there);
            }
        }
        guest.client.pool(id)
    }

    /// Whether a put may be refused like this, judged by what was held before
    /// it and was cached after it.
    fn check_refusal(
        &self,
        at: At,
        why: Refused,
        (there, keeps): (bool, bool),
        held: [u64; 3],
        cached: [u64; 2],
    ) {
        let guest = &self.guests[at.client];
        let left = match keeps && !there {
            true => reserve(guest.quota),
            false => 0,
        };
        let kind = KINDS[at.pool as usize];
        match why {
            Refused::Frozen => assert!(guest.frozen && (!there || kind == PoolKind::Ephemeral)),
            Refused::Quota => {
                let of_pool = at.pool == 2 && held[2] + step() > 200 * KIB;
                assert!(held[0] + step() + left > guest.quota || of_pool, "{held:?}");
                if !of_pool {
                    assert_eq!(cached[0], 0);
                }
            }
            Refused::Memory => {
                let stats = self.store.stats();
                assert!(
                    held[1] + step() + RESERVE > stats.memory_limit_bytes,
                    "{held:?}"
                );
                if kind == PoolKind::Persistent {
                    assert_eq!(cached[1], 0);
                }
            }
            _ => panic!("{why:?}"),
        }
    }

    /// Ephemeral pages of the client and of the store.
    fn cached(&self, at: At) -> [u64; 2] {
        let client = self.guests[at.client].client.stats();
        [client.ephemeral_pages, self.store.stats().ephemeral_pages]
    }

    /// Bytes held by the client, the store and the pool.
    fn held(&self, at: At, pool: &Pool) -> [u64; 3] {
        let client = self.guests[at.client].client.stats();
        let store = self.store.stats();
        [client.held_bytes, store.held_bytes, pool.held_bytes()]
    }

    #[expect(clippy::too_many_arguments, reason = "all that a put may depend on")]
    fn after_put(
        &mut self,
        at: At,
        put: Put,
        seed: u64,
        texture: Texture,
        held: [u64; 3],
        cached: [u64; 2],
        keeps: bool,
    ) {
        let key = (at.pool, at.object, at.index);
        let there = self.guests[at.client].pages.contains_key(&key);
        match KINDS[at.pool as usize] {
            _ if keeps && put.result.is_err() => assert!(!put.prior_removed),
            PoolKind::Persistent => assert_eq!(put.prior_removed, there),
            PoolKind::Ephemeral => assert!(there || !put.prior_removed),
        }
        if let Err(why) = put.result {
            self.check_refusal(at, why, (there, keeps), held, cached);
            if !keeps {
                self.guests[at.client].pages.remove(&key);
            }
        } else {
            assert!(!self.guests[at.client].frozen || there);
            self.guests[at.client].pages.insert(key, (seed, texture));
        }
    }

    fn after_get(&mut self, at: At, found: Option<&[u8; PAGE_SIZE]>) {
        let key = (at.pool, at.object, at.index);
        let guest = &mut self.guests[at.client];
        match (found, guest.pages.get(&key)) {
            (Some(found), Some((seed, texture))) => assert!(*found == page(*seed, *texture)),
            (Some(_), None) => panic!("{at:?} was got but never put"),
            (None, Some(_)) => {
                assert_eq!(
                    KINDS[at.pool as usize],
                    PoolKind::Ephemeral,
                    "{at:?} is gone"
                );
                guest.pages.remove(&key);
            }
            (None, None) => {}
        }
    }

    fn after_removal(kind: PoolKind, removed: u64, known: u64) {
        match kind {
            PoolKind::Persistent => assert_eq!(removed, known),
            PoolKind::Ephemeral => assert!(removed <= known),
        }
    }

    fn apply_on_pool(&mut self, op: &Op, at: At) {
        let Some(pool) = self.pool(at.client, at.pool) else {
            return;
        };
        let (kind, object) = (pool.kind(), object(at.object));
        match *op {
            Op::Put {
                seed,
                texture,
                keeps,
                ..
            } => {
                let held = self.held(at, &pool);
                let page = page(seed, texture);
                let put = match keeps {
                    true => pool.put_or_keep(&object, at.index, &page),
                    false => pool.put(&object, at.index, &page),
                };
                let cached = self.cached(at);
                let keeps = keeps && kind == PoolKind::Persistent;
                self.after_put(at, put, seed, texture, held, cached, keeps);
            }
            Op::PutRun {
                count,
                seed,
                texture,
                ..
            } => {
                let mut outcomes = Vec::new();
                let source = &mut |nth: u32, to: &mut _| {
                    *to = page(seed.wrapping_add(u64::from(nth)), texture);
                    true
                };
                // Judged after the run: of what was held before each page only
                // the most, which is what is held in the end or at any time.
                let mut held = self.held(at, &pool);
                pool.put_run(&object, at.index, count, source, &mut |nth, put| {
                    let now = self.held(at, &pool);
                    held = std::array::from_fn(|nth| held[nth].max(now[nth]));
                    // A later page of the run may find what this one gave back.
                    outcomes.push((u64::from(nth), put, self.cached(at)));
                });
                for (nth, put, cached) in outcomes {
                    if let Some(index) = at.index.checked_add(nth) {
                        let at = At { index, ..at };
                        let seed = seed.wrapping_add(nth);
                        self.after_put(at, put, seed, texture, held, cached, false);
                    } else {
                        assert_eq!(put, refused(Refused::Unreadable));
                    }
                }
            }
            Op::Get { .. } => {
                let found = get(&pool, &object, at.index);
                self.after_get(at, found.as_deref());
            }
            Op::GetRun { count, .. } => {
                let mut all = Vec::new();
                pool.get_run(&object, at.index, count, &mut |_, found| {
                    all.push(found.unwrap().copied());
                });
                assert_eq!(all.len(), count as usize);
                for (nth, found) in (0..).zip(&all) {
                    match at.index.checked_add(nth) {
                        Some(index) => self.after_get(At { index, ..at }, found.as_ref()),
                        None => assert!(found.is_none()),
                    }
                }
            }
            Op::Take { .. } => {
                let mut buffer = [0; PAGE_SIZE];
                let hit = pool.take(&object, at.index, &mut buffer) == Get::Hit;
                self.after_get(at, hit.then_some(&buffer));
                self.guests[at.client].forget(at, at.index, at.index);
                assert_eq!(get(&pool, &object, at.index), None);
            }
            Op::Flush { count, .. } => {
                let removed = pool.flush(&object, at.index, count);
                let last = at.index.saturating_add(count.saturating_sub(1));
                let known = match count {
                    0 => 0,
                    _ => self.guests[at.client].forget(at, at.index, last),
                };
                Self::after_removal(kind, removed, known);
            }
            Op::FlushObject { .. } => {
                let removed = pool.flush_object(&object);
                let known = self.guests[at.client].forget(at, 0, u64::MAX);
                Self::after_removal(kind, removed, known);
            }
            _ => {}
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Put { at, .. }
            | Op::PutRun { at, .. }
            | Op::Get { at }
            | Op::GetRun { at, .. }
            | Op::Take { at }
            | Op::Flush { at, .. }
            | Op::FlushObject { at } => self.apply_on_pool(op, at),
            Op::Destroy { client, pool } => {
                let guest = &mut self.guests[client];
                let before = guest.pages.len();
                guest.pages.retain(|(id, ..), _| *id != pool);
                let known = (before - guest.pages.len()) as u64;
                if let Some(removed) = guest.client.destroy_pool(pool) {
                    Self::after_removal(KINDS[pool as usize], removed, known);
                }
            }
            Op::Freeze { client, frozen } => {
                self.guests[client].client.set_frozen(frozen);
                self.guests[client].frozen = frozen;
            }
            Op::Quota { client, bytes } => {
                self.guests[client].client.set_quota(bytes);
                self.guests[client].quota = bytes;
            }
            Op::Restart { client } => {
                let quota = self.guests[client].quota;
                self.guests[client] = Guest::new(&self.store, quota);
            }
            Op::Compression {
                client,
                compression,
            } => self.guests[client].client.set_compression(compression),
            Op::Recompress { on } => {
                self.recompresses = on;
                self.store.recompress_in_background(on);
            }
        }
    }

    fn check(&self) {
        // What the background thread does, at every step.
        self.store.compress_some(1);
        while self.store.clean_some() {}
        while self.recompresses && self.store.recompress_some() > 0 {}
        let stats = self.store.stats();
        assert!(stats.held_bytes <= stats.memory_limit_bytes);
        let mut held = 0;
        for guest in &self.guests {
            let stats = guest.client.stats();
            held += stats.held_bytes;
            assert_eq!(stats.persistent_pages, guest.count(PoolKind::Persistent));
            assert!(stats.ephemeral_pages <= guest.count(PoolKind::Ephemeral));
            // A lowered quota takes effect on what may be taken away at once; only
            // the piece of a segment that pages are moved to may lie beyond it.
            assert!(
                stats.held_bytes <= guest.quota + PIECE || stats.ephemeral_pages == 0,
                "{stats:?}"
            );
        }
        assert_eq!(stats.clients, 2);
        if mode() == Mode::Background {
            // Metrics that are read one after the other do not add up while
            // pages are compressed.
            return;
        }
        assert_eq!(stats.held_bytes, held);
        assert!(stats.mapped_bytes <= stats.held_bytes);
        if mode() == Mode::InLine {
            assert_eq!(stats.deferred_pages, 0);
        }
        let kinds = stats.same_filled_pages
            + stats.compressed_pages
            + stats.raw_pages
            + stats.deferred_pages;
        assert_eq!(kinds, stats.persistent_pages + stats.ephemeral_pages);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn histories_of_two_clients_agree_with_the_model(
        limit in MIB..3 * MIB,
        quotas in [64 * KIB..2 * MIB, 64 * KIB..4 * MIB],
        history in vec(op(), 1..400),
    ) {
        let mut world = World::new(limit, quotas);
        for op in &history {
            world.apply(op);
            world.check();
        }
        // Nothing that the model knows to be persistent is missing.
        for (client, guest) in world.guests.iter().enumerate() {
            for ((pool, number, index), (seed, texture)) in &guest.pages {
                let pool = world.pool(client, *pool).unwrap();
                let found = get(&pool, &object(*number), *index);
                match found {
                    Some(found) => prop_assert!(*found == page(*seed, *texture)),
                    None => prop_assert_eq!(pool.kind(), PoolKind::Ephemeral),
                }
            }
        }
        let World { store, guests, .. } = world;
        store.recompress_in_background(false);
        drop(guests);
        prop_assert_eq!(store.stats().held_bytes, 0);
        prop_assert_eq!(store.stats().mapped_bytes, 0);
    }
}
