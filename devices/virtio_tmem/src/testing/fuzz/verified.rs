// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A verified share that both VMs of a history may have, one of which, or both, put wrong pages.

use std::collections::BTreeSet;

use tmem_store::{Page, Store};
use tmem_wire::{PageHash, ShareId, Status};

use super::driver::{VmDriver, content};
use crate::device::Verifier;
use crate::testing::{HostShares, Layout, verified_shares};

/// Its name, and the pool id that stands for it.
pub(super) const GOLDEN: ShareId = [0x62; 16];
const POOL: u32 = 5;
/// Most that is held for it.
const QUOTA: u64 = 256 << 10;
const SALT: &[u8] = b"of the image";

pub(super) fn host(store: &Store) -> HostShares {
    verified_shares(store, &[GOLDEN], QUOTA, SALT)
}

/// What may be in it.
#[derive(Debug, Default)]
pub(super) struct Verified {
    pages: BTreeSet<[u8; PageHash::SIZE]>,
}

fn hash(page: &Page) -> PageHash {
    Verifier::new(SALT).hash(page)
}

impl Verified {
    pub(super) fn len(&self) -> u64 {
        self.pages.len() as u64
    }

    /// A step of a driver that has made the pool if it `is_open`.
    pub(super) fn step(
        &mut self,
        driver: &mut VmDriver<'_>,
        is_open: &mut bool,
        op: u8,
        (index, seed): (u64, u64),
    ) {
        let name = hash(&content(seed));
        let object = name.object();
        let served = |status: Status, wanted: Status| {
            let wanted = match *is_open {
                true => wanted,
                false => Status::NO_POOL,
            };
            assert_eq!(status, wanted);
            *is_open
        };
        match op % 16 {
            0..=4 => {
                // Now and then one that does not belong there.
                let page = content(seed + index % 2);
                let put = driver.put(POOL, &object, name.index(), &[page]);
                if served(put.status(), Status::OK) {
                    self.put(name, &page, put.pages(1)[0]);
                }
            }
            5..=10 => {
                let got = driver.get(POOL, &object, name.index(), 1);
                if served(got.status(), Status::OK) {
                    let is_there = got.pages(1)[0].is_ok();
                    let page = is_there.then(|| got.page(1, 0).try_into().expect("a page"));
                    self.get(name, page);
                }
            }
            11 => {
                let answer = driver.flush_object(POOL, &object);
                served(answer.status(), Status::OK);
                assert_eq!(answer.header().pages, 0);
            }
            12 => {
                let answer = driver.flush(POOL, &object, 0, u32::MAX);
                served(answer.status(), Status::OK);
                assert_eq!(answer.header().pages, 0);
            }
            13 => {
                let layout = Layout::default();
                let got = driver.get_as(POOL, &object, name.index(), 1, true, &layout);
                served(got.status(), Status::INVALID);
            }
            14 => {
                let status = driver.create_shared_pool(POOL, GOLDEN);
                assert_eq!(status, Status::NO_SHARE);
            }
            _ => {
                let status = driver.create_verified_pool(POOL, GOLDEN);
                let wanted = match *is_open {
                    true => Status::EXISTS,
                    false => Status::OK,
                };
                assert_eq!(status, wanted);
                *is_open = true;
            }
        }
    }

    fn put(&mut self, name: PageHash, page: &Page, status: Status) {
        if hash(page) != name {
            // What was there stays.
            return assert_eq!(status, Status::MISMATCH);
        }
        match status.code() {
            Status::OK => {
                self.pages.insert(name.0);
            }
            Status::QUOTA | Status::NO_MEMORY => {
                self.pages.remove(&name.0);
            }
            other => panic!("a put of a right page cannot end with {other:?}"),
        }
    }

    fn get(&mut self, name: PageHash, page: Option<&Page>) {
        let Some(page) = page else {
            self.pages.remove(&name.0);
            return;
        };
        assert_eq!(hash(page), name);
        assert!(self.pages.contains(&name.0), "was got but never put");
    }
}
