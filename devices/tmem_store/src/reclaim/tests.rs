// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The loop of everything that needs memory.

use super::{Effort, Request};
use crate::budget::Shortage;
use crate::types::PoolKind;
use crate::{Client, ClientConfig, PAGE_SIZE, PoolConfig, Store, StoreConfig};

/// Is short of memory until it has given up its own.
struct Owner {
    shortage: Shortage,
    has_own: bool,
    tries: u32,
}

impl Request for Owner {
    type Done = ();

    fn run(&mut self) -> Result<(), Shortage> {
        self.tries += 1;
        (!self.has_own).then_some(()).ok_or(self.shortage)
    }

    fn kind(&self) -> PoolKind {
        PoolKind::Persistent
    }

    fn give_up_own(&mut self) -> bool {
        std::mem::take(&mut self.has_own)
    }
}

/// Is always short of memory, and has nothing of its own.
struct Never {
    shortage: Shortage,
    tries: u32,
}

impl Request for Never {
    type Done = ();

    fn run(&mut self) -> Result<(), Shortage> {
        self.tries += 1;
        Err(self.shortage)
    }

    fn kind(&self) -> PoolKind {
        PoolKind::Persistent
    }
}

/// Finds no memory once, while another thread gives all back that there was to give.
struct Late<'a> {
    client: &'a Client,
    shortage: Shortage,
    tries: u32,
}

impl Request for Late<'_> {
    type Done = ();

    fn run(&mut self) -> Result<(), Shortage> {
        self.tries += 1;
        if self.tries > 1 {
            return Ok(());
        }
        assert_eq!(self.client.destroy_pool(0), Some(100));
        while self.client.member().budget.trim() {}
        Err(self.shortage)
    }

    fn kind(&self) -> PoolKind {
        PoolKind::Persistent
    }
}

/// A client with ephemeral pages.
fn client() -> Client {
    let store = Store::new(StoreConfig::with_limit(16 << 20)).expect("a store");
    let config = ClientConfig::new("test", 8 << 20);
    let client = store.add_client(config).expect("a client");
    let config = PoolConfig::new(PoolKind::Ephemeral);
    client.create_pool(0, config).expect("a pool");
    let pool = client.pool(0).expect("the pool");
    for index in 0..100 {
        let page = &[1; PAGE_SIZE];
        assert_eq!(pool.put(&[0; 24], index, page).result, Ok(()));
    }
    client
}

const SHORTAGES: [Shortage; 3] = [Shortage::Client, Shortage::Store, Shortage::System];

#[test]
fn what_a_request_has_itself_goes_before_pages_of_others() {
    for shortage in SHORTAGES {
        let client = client();
        let mut request = Owner {
            shortage,
            has_own: true,
            tries: 0,
        };
        let done = client.member().retry(&mut request, &mut Effort::one());
        assert_eq!((done, request.tries), (Ok(()), 2));
        assert_eq!(client.stats().ephemeral_pages, 100);
    }
}

#[test]
fn request_that_is_never_done_is_refused_once_there_is_no_more_to_give_up() {
    for shortage in SHORTAGES {
        let client = client();
        let mut request = Never { shortage, tries: 0 };
        let done = client.member().retry(&mut request, &mut Effort::run());
        assert_eq!(done, Err(shortage));
        assert_eq!(client.stats().ephemeral_pages, 0, "{shortage:?}");
    }
}

#[test]
fn memory_that_came_back_meanwhile_is_found() {
    for shortage in SHORTAGES {
        let client = client();
        let mut request = Late {
            client: &client,
            shortage,
            tries: 0,
        };
        let done = client.member().retry(&mut request, &mut Effort::one());
        assert_eq!((done, request.tries), (Ok(()), 2));
    }
}

#[test]
fn effort_bounds_how_often_it_is_tried() {
    for shortage in SHORTAGES {
        let client = client();
        let effort = &mut Effort::one();
        while effort.look() {}
        let mut request = Never { shortage, tries: 0 };
        assert_eq!(client.member().retry(&mut request, effort), Err(shortage));
        assert_eq!(request.tries, 1);
        assert_eq!(client.stats().ephemeral_pages, 100, "{shortage:?}");
    }
}
