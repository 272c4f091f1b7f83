// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Clients of a store, and the pages that they must find there.

use std::collections::BTreeMap;
use std::time::Duration;

use tmem_store::{
    Client, ClientConfig, Get, Identity, ObjectId, PAGE_SIZE, Page, Pool, PoolConfig, PoolKind,
    Recompression, Refused, Store, StoreConfig,
};

use super::Bytes;
use super::driver::content;

pub(super) const CLIENTS: u8 = 2;
const KINDS: [PoolKind; 3] = [
    PoolKind::Persistent,
    PoolKind::Ephemeral,
    PoolKind::Persistent,
];
const OBJECTS: u8 = 2;
const INDICES: u64 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Handle {
    pub(super) client: u8,
    pool: u8,
    object: u8,
    index: u64,
}

/// Page by page; `None` if its bytes cannot be brought back, as of one that lies about
/// how it was made.
type Pages = BTreeMap<Handle, Option<Box<Page>>>;

pub(super) fn store_config() -> StoreConfig {
    StoreConfig::with_limit(Store::LEAST_MEMORY).with_deferred_limit(64 << 10)
}

pub(super) fn identity(client: u8) -> Identity {
    Identity::new([client + 1; 16])
}

pub(super) fn client_config(client: u8) -> ClientConfig {
    ClientConfig::new("fuzz", 1 << 30)
        .with_max_pools(4)
        .with_identity(identity(client))
}

fn object(object: u8) -> ObjectId {
    [object; 24]
}

/// A store, its clients, and the pages that are there. Ephemeral ones may have gone.
pub(super) struct World {
    pub(super) store: Store,
    clients: Vec<Client>,
    pub(super) pages: Pages,
    /// Whether there may be pages that have no handle here.
    strangers: bool,
}

impl World {
    /// Clients are those that `make` has, or new ones.
    pub(super) fn new(store: Store, mut make: impl FnMut(u8, &Store) -> Option<Client>) -> Self {
        store.set_recompression(Recompression {
            after: Duration::ZERO,
            ..Recompression::default()
        });
        let clients = (0..CLIENTS).map(|number| {
            let made = make(number, &store);
            made.unwrap_or_else(|| store.add_client(client_config(number)).unwrap())
        });
        Self {
            clients: clients.collect(),
            pages: Pages::new(),
            strangers: false,
            store,
        }
    }

    fn client(&self, number: u8) -> &Client {
        &self.clients[usize::from(number)]
    }

    /// Pages that a client has.
    pub(super) fn count(&self, number: u8) -> u64 {
        let stats = self.client(number).stats();
        stats.persistent_pages + stats.ephemeral_pages
    }

    /// The pool of a page, of the kind that it has; `None` if there is no room for it.
    fn pool(&self, at: Handle) -> Option<Pool> {
        let client = self.client(at.client);
        let kind = KINDS[usize::from(at.pool)];
        let _ = client.create_pool(at.pool.into(), PoolConfig::new(kind));
        client.pool(at.pool.into())
    }

    fn get(&self, at: Handle) -> Option<Option<Box<Page>>> {
        let pool = self.client(at.client).pool(at.pool.into())?;
        let mut page = [0; PAGE_SIZE];
        match pool.get(&object(at.object), at.index, &mut page) {
            Get::Hit => Some(Some(Box::new(page))),
            Get::Miss => None,
            Get::Lost => Some(None),
        }
    }

    /// Takes what is there for what must be there.
    pub(super) fn adopt(&mut self) {
        for at in handles() {
            if let Some(page) = self.get(at) {
                self.pages.insert(at, page);
            }
        }
        let count: u64 = (0..CLIENTS).map(|number| self.count(number)).sum();
        self.strangers = count != self.pages.len() as u64;
    }

    /// Checks all pages, and forgets those that have gone.
    pub(super) fn look(&mut self) {
        for at in handles() {
            self.check(at);
        }
        let held = self.clients.iter().map(|client| client.stats().held_bytes);
        assert_eq!(self.store.held_bytes(), held.sum::<u64>());
        assert!(self.store.stats().mapped_bytes <= self.store.held_bytes());
    }

    fn check(&mut self, at: Handle) {
        let found = self.get(at);
        if found.is_none() && self.pages.contains_key(&at) {
            // Once a get misses it must keep missing.
            self.pages.remove(&at);
            let pool = self.client(at.client).pool(at.pool.into());
            let kind = pool.map(|pool| pool.kind());
            assert_eq!(kind, Some(PoolKind::Ephemeral), "{at:?} is missing");
            return;
        }
        assert!(found.as_ref() == self.pages.get(&at), "{at:?} is another");
    }

    /// Checks that `removed` is how many pages of those for which `is_gone` holds were there.
    fn removed(&mut self, kind: PoolKind, removed: u64, is_gone: impl Fn(&Handle) -> bool) {
        let before = self.pages.len();
        self.pages.retain(|at, _| !is_gone(at));
        let were = (before - self.pages.len()) as u64;
        match kind {
            _ if self.strangers => {}
            PoolKind::Persistent => assert_eq!(removed, were),
            PoolKind::Ephemeral => assert!(removed <= were),
        }
    }

    /// A step takes four bytes: operation, handle, index, seed or count.
    pub(super) fn step(&mut self, data: &mut Bytes<'_>) {
        let (op, handle, index, more) = (data.u8(), data.u8(), data.u8(), data.u8());
        let at = Handle {
            client: handle % CLIENTS,
            pool: handle / 2 % 3,
            object: handle / 8 % OBJECTS,
            index: u64::from(index) % INDICES,
        };
        let (name, of_object) = (object(at.object), |other: &Handle| {
            (other.client, other.pool, other.object) == (at.client, at.pool, at.object)
        });
        let Some(pool) = self.pool(at) else {
            return;
        };
        let kind = pool.kind();
        match op % 20 {
            0..=8 => {
                let page = content(more.into());
                let put = pool.put(&name, at.index, &page);
                let was = self.pages.remove(&at).is_some();
                match kind {
                    PoolKind::Persistent => assert_eq!(put.prior_removed, was),
                    PoolKind::Ephemeral => assert!(was || !put.prior_removed),
                }
                match put.result {
                    Ok(()) => drop(self.pages.insert(at, Some(Box::new(page)))),
                    Err(refused) => {
                        assert!(matches!(refused, Refused::Quota | Refused::Memory));
                    }
                }
            }
            9 | 10 => self.check(at),
            11 => {
                self.check(at);
                let got = pool.take(&name, at.index, &mut [0; PAGE_SIZE]);
                match self.pages.remove(&at) {
                    Some(Some(_)) => assert_eq!(got, Get::Hit),
                    Some(None) => assert_eq!(got, Get::Lost),
                    None => assert_eq!(got, Get::Miss),
                }
            }
            12 | 13 => {
                let count = u64::from(more % 16) + 1;
                let removed = pool.flush(&name, at.index, count);
                let range = at.index..at.index + count;
                self.removed(kind, removed, |other| {
                    of_object(other) && range.contains(&other.index)
                });
            }
            14 => {
                let removed = pool.flush_object(&name);
                self.removed(kind, removed, of_object);
            }
            15 => {
                let removed = self.client(at.client).destroy_pool(at.pool.into());
                self.removed(kind, removed.unwrap(), |other| {
                    (other.client, other.pool) == (at.client, at.pool)
                });
            }
            16 => drop(self.store.compress_some(more.into())),
            17 | 18 => drop(self.store.recompress_some()),
            _ => self.client(at.client).set_quota(u64::from(more) << 13),
        }
    }

    /// Checks that all memory comes back.
    pub(super) fn end(mut self) {
        self.look();
        self.clients.clear();
        assert_eq!(self.store.held_bytes(), 0, "bytes leaked");
        assert_eq!(self.store.stats().mapped_bytes, 0, "memory leaked");
    }
}

fn handles() -> impl Iterator<Item = Handle> {
    (0..CLIENTS).flat_map(|client| {
        (0..3).flat_map(move |pool| {
            (0..OBJECTS).flat_map(move |object| {
                (0..INDICES + 16).map(move |index| Handle {
                    client,
                    pool,
                    object,
                    index,
                })
            })
        })
    })
}
