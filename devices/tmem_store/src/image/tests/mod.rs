// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether what is made anew from page memory is what was there.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags};

mod cloned;
mod cuts;
mod damage;
mod one_by_one;
mod refused;
mod spilled;

use super::*;
use crate::tier::{Note, SEGMENT, State, Word};
use crate::types::{Get, ObjectId, PAGE_SIZE, Page, PoolKind};

const KINDS: [PoolKind; 3] = [
    PoolKind::Persistent,
    PoolKind::Ephemeral,
    PoolKind::Persistent,
];

const CLIENTS: u8 = 2;

/// Client, pool, object, index.
type Handle = (u8, u32, u8, u64);

fn identity(client: u8) -> Identity {
    Identity::new([client + 1; 16])
}

fn object(object: u8) -> ObjectId {
    [object; 24]
}

/// Every seed makes another page; they are kept in all the ways there are.
fn page(seed: u64) -> Page {
    let mut page = [0; PAGE_SIZE];
    let mut state = seed * 4 + 1;
    let noise = match seed % 4 {
        0 => {
            if !seed.is_multiple_of(8) {
                page.as_chunks_mut::<8>().0.fill(seed.to_le_bytes());
            }
            return page;
        }
        1 => PAGE_SIZE,
        2 => 1500,
        _ => 100,
    };
    for byte in page.iter_mut().take(noise) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    page[4000..4008].copy_from_slice(&seed.to_le_bytes());
    page
}

#[derive(Clone, Debug)]
enum Op {
    Put(Handle, u64),
    Take(Handle),
    Flush(Handle, u64),
    FlushObject(Handle),
    Destroy(u8, u32),
    Compress(u64),
    Clean,
}

fn op() -> impl Strategy<Value = Op> {
    op_of(CLIENTS)
}

fn op_of(clients: u8) -> impl Strategy<Value = Op> {
    let handle = (0..clients, 0..3_u32, 0..3_u8, 0..60_u64);
    prop_oneof![
        20 => (handle.clone(), 0..1000_u64).prop_map(|(at, seed)| Op::Put(at, seed)),
        2 => handle.clone().prop_map(Op::Take),
        6 => (handle.clone(), 1..20_u64).prop_map(|(at, count)| Op::Flush(at, count)),
        1 => handle.prop_map(Op::FlushObject),
        1 => (0..clients, 0..3_u32).prop_map(|(client, pool)| Op::Destroy(client, pool)),
        4 => (1..20_u64).prop_map(Op::Compress),
        3 => Just(Op::Clean),
    ]
}

struct World {
    store: Store,
    clients: Vec<Client>,
    /// Seeds of the pages that are there. Ephemeral ones may have gone.
    pages: BTreeMap<Handle, u64>,
}

fn client_config() -> ClientConfig {
    ClientConfig {
        name: "test".into(),
        identity: None,
        quota: 1 << 30,
        max_pools: 4,
        weight: ClientConfig::WEIGHT,
    }
}

fn store_config(limit: u64) -> StoreConfig {
    StoreConfig {
        deferred_limit: limit / 4,
        ..StoreConfig::with_limit(limit)
    }
}

impl World {
    fn new(limit: u64) -> Self {
        Self::with(store_config(limit))
    }

    fn with(config: StoreConfig) -> Self {
        let store = Store::new(config).unwrap();
        let mut this = Self {
            store,
            clients: Vec::new(),
            pages: BTreeMap::new(),
        };
        (0..CLIENTS).for_each(|number| this.add(number));
        this
    }

    fn add(&mut self, number: u8) {
        let config = client_config().with_identity(identity(number));
        self.clients.push(self.store.add_client(config).unwrap());
    }

    fn pool(&self, client: u8, pool: u32) -> crate::Pool {
        let config = crate::PoolConfig {
            kind: KINDS[pool as usize],
            quota: None,
        };
        let client = &self.clients[usize::from(client)];
        // There is room for pools, or it is one that was there.
        let _ = client.create_pool(pool, config);
        client.pool(pool).expect("room for a pool")
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Put(at, seed) => {
                let pool = self.pool(at.0, at.1);
                if pool.put(&object(at.2), at.3, &page(seed)).result.is_ok() {
                    self.pages.insert(at, seed);
                } else {
                    self.pages.remove(&at);
                }
            }
            Op::Take(at) => {
                let pool = self.pool(at.0, at.1);
                let _ = pool.take(&object(at.2), at.3, &mut [0; PAGE_SIZE]);
                self.pages.remove(&at);
            }
            Op::Flush(at, count) => {
                self.pool(at.0, at.1).flush(&object(at.2), at.3, count);
                self.pages.retain(|page, _| {
                    (page.0, page.1, page.2) != (at.0, at.1, at.2)
                        || page.3 < at.3
                        || page.3 >= at.3 + count
                });
            }
            Op::FlushObject(at) => {
                self.pool(at.0, at.1).flush_object(&object(at.2));
                self.pages
                    .retain(|page, _| (page.0, page.1, page.2) != (at.0, at.1, at.2));
            }
            Op::Destroy(client, pool) => {
                self.clients[usize::from(client)].destroy_pool(pool);
                self.pages
                    .retain(|page, _| (page.0, page.1) != (client, pool));
            }
            Op::Compress(pages) => {
                self.store.compress_some(pages);
            }
            Op::Clean => {
                for client in &self.clients {
                    let member = client.member();
                    let _ = member.clean(&mut crate::reclaim::Effort::run(), true);
                }
            }
        }
    }

    fn notes(&self) -> Vec<Note> {
        self.store.arena().journal().take()
    }
}

/// The store that a file is from is no more, or does nothing more.
#[expect(unsafe_code, reason = "it is the test's own file")]
fn unused(file: OwnedFd) -> PageMemory {
    // SAFETY: as said above; tests write to files only before this.
    unsafe { PageMemory::new(file) }
}

fn file(bytes: &[u8]) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("page memory", flags).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    let mut file = std::fs::File::from(file);
    file.write_all(bytes).unwrap();
    file.into()
}

/// Threads and batches as there are with much memory.
const PLAN: Plan = Plan {
    threads: 3,
    batch: 3,
    pages: 30,
    worthwhile: 1,
};

/// What is made anew: each client, or `None` where it is not believed.
type Recovered = Option<(Store, Vec<Option<Client>>)>;

fn recovered(bytes: &[u8], limit: u64) -> Recovered {
    recovered_with(bytes, store_config(limit))
}

fn recovered_with(bytes: &[u8], config: StoreConfig) -> Recovered {
    recovered_by(bytes, config, |recovery, identity, config| {
        recovery.plan = PLAN;
        recovery.client(identity, config)
    })
}

fn recovered_by(
    bytes: &[u8],
    config: StoreConfig,
    client: impl Fn(&mut Recovery, Identity, ClientConfig) -> Result<Client, Error>,
) -> Recovered {
    let recovery = Store::recover(unused(file(bytes)), config);
    let mut recovery = match recovery {
        Ok(recovery) => recovery,
        Err(Error::Damaged | Error::OtherVersion { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    let clients =
        (0..CLIENTS).map(
            |number| match client(&mut recovery, identity(number), client_config()) {
                Ok(client) => Some(client),
                Err(Error::Damaged) => None,
                Err(error) => panic!("{error}"),
            },
        );
    let clients = clients.collect();
    Some((recovery.store().clone(), clients))
}

fn get(client: &Client, at: Handle) -> Option<Page> {
    let mut buffer = [0; PAGE_SIZE];
    match client.pool(at.1)?.get(&object(at.2), at.3, &mut buffer) {
        Get::Hit => Some(buffer),
        Get::Miss => None,
        Get::Lost => panic!("{at:?} is lost"),
    }
}

/// That a client has exactly the pages of one of `states`, each of which may be of
/// another one.
fn check<const N: usize>(client: &Client, number: u8, states: [&BTreeMap<Handle, u64>; N]) {
    let mut count = 0;
    for pool in 0..3 {
        for object in 0..3 {
            for index in 0..80 {
                let at = (number, pool, object, index);
                let found = get(client, at);
                count += u64::from(found.is_some());
                let allowed = states.map(|pages| pages.get(&at).copied());
                let right = allowed.iter().any(|seed| found == seed.map(page));
                let evicted = found.is_none() && KINDS[pool as usize] == PoolKind::Ephemeral;
                assert!(right || evicted, "{at:?}: {allowed:?}");
            }
        }
    }
    let stats = client.stats();
    // Nothing else is there, either.
    assert_eq!(stats.persistent_pages + stats.ephemeral_pages, count);
}

/// That all memory is accounted for, and comes back.
fn check_end(store: &Store, clients: Vec<Option<Client>>) {
    let held: u64 = clients
        .iter()
        .flatten()
        .map(|client| client.stats().held_bytes)
        .sum();
    assert_eq!(store.held_bytes() + store.stats().spilled_bytes, held);
    assert!(store.stats().mapped_bytes <= held);
    drop(clients);
    assert_eq!(store.held_bytes(), 0);
    assert_eq!(store.stats().mapped_bytes, 0);
}

const LIMIT: u64 = 1 << 20;
