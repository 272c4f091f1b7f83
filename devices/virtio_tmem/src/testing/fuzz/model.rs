// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the pools of one VM must hold.

use std::collections::BTreeMap;

use tmem_wire::{PoolKind, Status};

/// Object, by a number, and index.
pub(super) type Handle = (u8, u64);

/// One pool: the seed of the page that each handle may bring.
#[derive(Debug)]
pub(super) struct ModelPool {
    pub(super) kind: PoolKind,
    pages: BTreeMap<Handle, u64>,
}

impl ModelPool {
    pub(super) fn new(kind: PoolKind) -> Self {
        Self {
            kind,
            pages: BTreeMap::new(),
        }
    }

    fn is_persistent(&self) -> bool {
        self.kind == PoolKind::Persistent
    }

    pub(super) fn len(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Checks the status of a put.
    pub(super) fn put(&mut self, handle: Handle, seed: u64, status: Status, frozen: bool) {
        let was = self.pages.remove(&handle).is_some();
        if self.is_persistent() {
            assert_eq!(status.prior_removed(), was, "{handle:?}: {status:?}");
        } else {
            assert!(was || !status.prior_removed(), "{handle:?}: {status:?}");
        }
        match status.code() {
            Status::OK => {
                assert!(
                    !frozen || status.prior_removed(),
                    "a new page was put while frozen"
                );
                self.pages.insert(handle, seed);
            }
            Status::QUOTA | Status::NO_MEMORY => {}
            Status::FROZEN => assert!(frozen),
            other => panic!("a put cannot end with {other:?}"),
        }
    }

    /// Checks the status of a get; the seed of the page that must have come.
    pub(super) fn get(&mut self, handle: Handle, status: Status, remove: bool) -> Option<u64> {
        match status {
            Status::OK => {
                let seed = self.pages.get(&handle).copied();
                assert!(seed.is_some(), "{handle:?} was got but never put");
                if remove {
                    self.pages.remove(&handle);
                }
                seed
            }
            Status::MISS => {
                // Once a get misses it must keep missing.
                let was = self.pages.remove(&handle).is_some();
                assert!(!was || !self.is_persistent(), "{handle:?} is lost");
                None
            }
            other => panic!("a get cannot end with {other:?}"),
        }
    }

    /// Checks how many pages a flush of `index..=last` removed.
    pub(super) fn flush(&mut self, object: u8, index: u64, last: u64, removed: u64) {
        let range = (object, index)..=(object, last);
        let handles: Vec<_> = self.pages.range(range).map(|(handle, _)| *handle).collect();
        for handle in &handles {
            self.pages.remove(handle);
        }
        self.removed(handles.len() as u64, removed);
    }

    /// Checks that `removed` pages are right where there were `were`.
    pub(super) fn removed(&self, were: u64, removed: u64) {
        if self.is_persistent() {
            assert_eq!(removed, were);
        } else {
            assert!(removed <= were, "{removed} of {were} pages");
        }
    }
}
