// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A page that is moved while it is got, put, flushed and evicted, in many
//! interleavings of the threads that do so. Run by
//! `RUSTFLAGS='--cfg shuttle' cargo test -p tmem-store --lib interleavings`.

use crate::reclaim::Effort;
use crate::sync::{Arc, thread};
use crate::{
    Client, ClientConfig, Get, ObjectId, PAGE_SIZE, Page, Pool, PoolConfig, PoolKind, Store,
    StoreConfig,
};

const OBJECT: ObjectId = [3; 24];

/// Pages that threads use; others are there to be moved, and to make room.
const PAGES: u64 = 2;

/// Page `index`, in version `version`. Some compress, some do not.
fn page(index: u64, version: u64) -> Page {
    let mut page = [0; PAGE_SIZE];
    let mut state = index << 8 | version;
    let noise = if version.is_multiple_of(2) { 4000 } else { 500 };
    for byte in page.iter_mut().take(noise) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        *byte = state.to_be_bytes()[0];
    }
    page[4080..4088].copy_from_slice(&index.to_le_bytes());
    page[4088..].copy_from_slice(&version.to_le_bytes());
    page
}

/// The version of a page that is right for its index.
fn version_of(index: u64, found: &Page) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *found;
    let version = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    assert!(version < 1000 && *found == page(index, version), "torn");
    version
}

struct World {
    store: Store,
    client: Client,
    pool: Pool,
}

impl World {
    fn new(kind: PoolKind, deferred: bool) -> Self {
        let store = Store::new(StoreConfig {
            memory_limit: Store::LEAST_MEMORY,
            deferred_limit: if deferred { 1 << 18 } else { 0 },
            spill: None,
        });
        let store = store.expect("a store");
        let config = ClientConfig {
            name: "test".into(),
            identity: None,
            quota: 1 << 30,
            max_pools: 1,
            weight: ClientConfig::WEIGHT,
        };
        let client = store.add_client(config).expect("a client");
        let config = PoolConfig { kind, quota: None };
        client.create_pool(0, config).expect("a pool");
        let pool = client.pool(0).expect("the pool");
        // The pages lie in a segment that is sealed and sparse.
        for index in 0..PAGES {
            assert_eq!(pool.put(&OBJECT, index, &page(index, 0)).result, Ok(()));
        }
        for index in 100..135 {
            assert_eq!(pool.put(&OBJECT, index, &page(index, 0)).result, Ok(()));
        }
        pool.flush(&OBJECT, 100, 20);
        Self {
            store,
            client,
            pool,
        }
    }

    /// Moves pages, twice, in a thread of its own.
    fn mover(self: &Arc<Self>) -> thread::JoinHandle<()> {
        let world = self.clone();
        thread::spawn(move || {
            world.clean();
            world.clean();
        })
    }

    fn clean(&self) {
        let member = self.client.member();
        let _ = member.clean(&mut Effort::run(), true);
    }

    fn end(self) {
        let Self {
            store,
            client,
            pool,
        } = self;
        drop((client, pool));
        assert_eq!(store.held_bytes(), 0);
        assert_eq!(store.stats().mapped_bytes, 0);
    }
}

fn explore(run: impl Fn() + Send + Sync + 'static) {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    let scheduler = shuttle::scheduler::PctScheduler::new(3, 1500);
    shuttle::Runner::new(scheduler, config).run(run);
}

/// A get whose page is moved while it is read, and whose segment would go back.
#[test]
fn page_that_is_read_stays_while_it_is_moved() {
    explore(|| {
        let world = Arc::new(World::new(PoolKind::Persistent, false));
        let getter = thread::spawn({
            let world = world.clone();
            move || {
                let mut buffer = [0; PAGE_SIZE];
                let got = world.pool.get(&OBJECT, 1, &mut buffer);
                assert_eq!((got, version_of(1, &buffer)), (Get::Hit, 0));
            }
        });
        world.clean();
        let stats = world.client.stats();
        assert!(stats.cleaned_segments == 1 && stats.moved_bytes > 0);
        getter.join().expect("the getter ends");
        Arc::into_inner(world).expect("nobody else has it").end();
    });
}

/// While pages are moved, a get brings the version that was put last, or one that is
/// being put.
#[test]
fn moved_page_is_got_and_put() {
    for deferred in [false, true] {
        explore(move || {
            let world = Arc::new(World::new(PoolKind::Persistent, deferred));
            let mover = thread::spawn({
                let world = world.clone();
                move || {
                    world.clean();
                    world.store.compress_some(8);
                    world.clean();
                }
            });
            let getter = thread::spawn({
                let world = world.clone();
                move || {
                    let mut last = 0;
                    for _ in 0..3 {
                        let mut buffer = [0; PAGE_SIZE];
                        let got = world.pool.get(&OBJECT, 0, &mut buffer);
                        assert_eq!(got, Get::Hit);
                        let version = version_of(0, &buffer);
                        assert!(version >= last, "{version} after {last}");
                        last = version;
                        let got = world.pool.get(&OBJECT, 1, &mut buffer);
                        assert_eq!((got, version_of(1, &buffer)), (Get::Hit, 0));
                    }
                }
            });
            for version in 1..4 {
                let put = world.pool.put(&OBJECT, 0, &page(0, version));
                assert_eq!(put.result, Ok(()));
            }
            mover.join().expect("the mover ends");
            getter.join().expect("the getter ends");
            let mut buffer = [0; PAGE_SIZE];
            let got = world.pool.get(&OBJECT, 0, &mut buffer);
            assert_eq!((got, version_of(0, &buffer)), (Get::Hit, 3));
            Arc::into_inner(world).expect("nobody else has it").end();
        });
    }
}

/// While pages are moved, a page that was flushed is not there, until it is put.
#[test]
fn moved_page_is_flushed() {
    explore(|| {
        let world = Arc::new(World::new(PoolKind::Persistent, false));
        let mover = world.mover();
        let mut buffer = [0; PAGE_SIZE];
        for version in 1..3 {
            assert_eq!(world.pool.flush(&OBJECT, 0, 1), 1);
            assert_eq!(world.pool.get(&OBJECT, 0, &mut buffer), Get::Miss);
            let put = world.pool.put(&OBJECT, 0, &page(0, version));
            assert_eq!(put.result, Ok(()));
            let got = world.pool.get(&OBJECT, 0, &mut buffer);
            assert_eq!((got, version_of(0, &buffer)), (Get::Hit, version));
        }
        assert_eq!(world.pool.flush_object(&OBJECT), PAGES + 15);
        mover.join().expect("the mover ends");
        assert_eq!(world.client.stats().persistent_pages, 0);
        Arc::into_inner(world).expect("nobody else has it").end();
    });
}

/// While pages are moved and evicted, one that is found is right, and one that was
/// missed stays away.
#[test]
fn moved_page_is_evicted() {
    explore(|| {
        let world = Arc::new(World::new(PoolKind::Ephemeral, false));
        let mover = world.mover();
        let evictor = thread::spawn({
            let world = world.clone();
            move || {
                for _ in 0..6 {
                    world.client.member().evict(&mut Effort::run(), true);
                }
            }
        });
        let mut missed = [false; PAGES as usize];
        for _ in 0..3 {
            for (index, missed) in (0..).zip(&mut missed) {
                let mut buffer = [0; PAGE_SIZE];
                match world.pool.get(&OBJECT, index, &mut buffer) {
                    Get::Hit => {
                        assert!(!*missed, "{index} came back");
                        assert_eq!(version_of(index, &buffer), 0);
                    }
                    Get::Miss => *missed = true,
                    Get::Lost => panic!("{index} is lost"),
                }
            }
        }
        mover.join().expect("the mover ends");
        evictor.join().expect("the evictor ends");
        Arc::into_inner(world).expect("nobody else has it").end();
    });
}

/// A page that a clone and its source both put, flush and get, while it is moved below both: each sees its
/// own, and none sees what was below again.
#[test]
fn shared_page_is_put_and_flushed() {
    explore(|| {
        let World {
            store,
            client,
            pool,
        } = World::new(PoolKind::Persistent, false);
        drop(pool);
        let other = store.add_client(ClientConfig::new("clone", 1 << 30));
        let other = other.expect("a clone");
        let base = client.to_base(|_, _| true).expect("a base");
        other.go_on_over(&base).expect("a clone");
        drop(base);
        let clients = [Arc::new(client), Arc::new(other)];
        let works = clients.clone().map(|client| {
            thread::spawn(move || {
                let pool = client.pool(0).expect("the pool");
                let mut buffer = [0; PAGE_SIZE];
                let put = pool.put(&OBJECT, 0, &page(0, 1));
                assert!(put.result.is_ok() && put.prior_removed);
                assert_eq!(pool.flush(&OBJECT, 0, 2), 2);
                assert_eq!(pool.get(&OBJECT, 0, &mut buffer), Get::Miss);
                let put = pool.put(&OBJECT, 0, &page(0, 2));
                assert!(put.result.is_ok() && !put.prior_removed);
            })
        });
        let getters = clients.clone().map(|client| {
            thread::spawn(move || {
                let pool = client.pool(0).expect("the pool");
                let mut buffer = [0; PAGE_SIZE];
                let (mut last, mut missed) = (0, false);
                for _ in 0..4 {
                    match pool.get(&OBJECT, 0, &mut buffer) {
                        Get::Hit => {
                            let version = version_of(0, &buffer);
                            assert!(version >= last, "{version} after {last}");
                            assert!(!missed || version == 2, "{version} after it was flushed");
                            last = version;
                        }
                        Get::Miss => missed = true,
                        Get::Lost => panic!("it is lost"),
                    }
                }
            })
        });
        while store.sweep_some() {}
        store.clean_some();
        for thread in works.into_iter().chain(getters) {
            thread.join().expect("it ends");
        }
        for client in &clients {
            let stats = client.stats();
            assert_eq!(
                (stats.persistent_pages, stats.shared_pages),
                (16, 15),
                "{stats:?}"
            );
        }
        drop(clients);
        assert_eq!(store.held_bytes(), 0);
    });
}

/// In memory that is nearly full pages are put in the place of others, which somebody may
/// still read or move.
#[test]
fn page_is_put_in_the_place_of_one_that_is_read_and_moved() {
    explore(|| {
        let world = Arc::new(World::new(PoolKind::Persistent, false));
        let held = world.client.stats().held_bytes;
        world.client.set_quota(held + 4096);
        let mover = world.mover();
        let getter = thread::spawn({
            let world = world.clone();
            move || {
                for index in [1, 0, 1] {
                    let mut buffer = [0; PAGE_SIZE];
                    let got = world.pool.get(&OBJECT, index, &mut buffer);
                    assert_eq!(got, Get::Hit);
                    version_of(index, &buffer);
                }
            }
        });
        for (index, version) in [(1, 1), (0, 3), (1, 2), (0, 2), (1, 5)] {
            let put = world.pool.put(&OBJECT, index, &page(index, version));
            assert_eq!(put.result, Ok(()));
            let mut buffer = [0; PAGE_SIZE];
            let got = world.pool.get(&OBJECT, index, &mut buffer);
            assert_eq!((got, version_of(index, &buffer)), (Get::Hit, version));
        }
        mover.join().expect("the mover ends");
        getter.join().expect("the getter ends");
        Arc::into_inner(world).expect("nobody else has it").end();
    });
}
