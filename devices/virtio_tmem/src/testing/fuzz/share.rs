// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Shares that both VMs of a history may have.

use std::sync::Arc;

use tmem_store::{Page, Store};
use tmem_wire::{PoolKind, ShareId, Status};

use super::model::ModelPool;
use super::verified::{self, Verified};
use crate::testing::{Allowed, Answer, HostShare, HostShares, host_shares};

/// Its name, and that of one that nobody has.
pub(super) const GOLDEN: ShareId = [0x60; 16];
pub(super) const NONE: ShareId = [0x61; 16];
/// The pool id that stands for it.
pub(super) const POOL: u32 = 4;
/// Most that is held for it.
const QUOTA: u64 = 512 << 10;

/// The share, and what it must hold.
#[derive(Debug)]
pub(super) struct Share {
    host: HostShares,
    pool: ModelPool,
    pub(super) verified: Verified,
}

/// What a VM has of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) allowed: Arc<Allowed>,
    /// The operator lets it have the share.
    is_allowed: bool,
    /// Its driver has a pool id for it.
    is_open: bool,
    /// It has one for the verified share.
    pub(super) is_verified_open: bool,
}

impl Share {
    pub(super) fn new(store: &Store) -> Self {
        let plain = host_shares(store, &[GOLDEN], QUOTA);
        let verified = verified::host(store);
        let all = [plain, verified].into_iter().filter_map(Arc::into_inner);
        Self {
            host: Arc::new(all.flatten().collect()),
            pool: ModelPool::new(PoolKind::Ephemeral),
            verified: Verified::default(),
        }
    }

    pub(super) fn part(&self) -> Part {
        Part {
            allowed: Allowed::new(&self.host, &[GOLDEN, verified::GOLDEN]),
            is_allowed: true,
            is_open: false,
            is_verified_open: false,
        }
    }

    /// Checks the statuses of pages that were put.
    pub(super) fn put(
        &mut self,
        handles: impl Iterator<Item = ((u8, u64), u64)>,
        statuses: &[Status],
    ) {
        for ((handle, seed), status) in handles.zip(statuses) {
            self.pool.put(handle, seed, *status, false);
        }
    }

    /// Checks pages that were got; `content` makes the page of a seed.
    pub(super) fn get(
        &mut self,
        handles: impl Iterator<Item = (u8, u64)>,
        answer: &Answer,
        count: u32,
        content: impl Fn(u64) -> Page,
    ) {
        for ((nth, handle), status) in (0..).zip(handles).zip(answer.pages(count)) {
            if let Some(seed) = self.pool.get(handle, status, false) {
                assert_eq!(answer.page(count, nth), content(seed), "{handle:?}");
            }
        }
    }

    pub(super) fn flush(&mut self, object: u8, index: u64, last: u64, removed: u64) {
        self.pool.flush(object, index, last, removed);
    }

    /// Checks at the end that what it holds has come back.
    pub(super) fn end(self) {
        for (id, HostShare { client, .. }) in self.host.iter() {
            let removed = client.destroy_pool(0).unwrap();
            let most = match *id {
                GOLDEN => self.pool.len(),
                _ => self.verified.len(),
            };
            self.pool.removed(most, removed);
            assert_eq!(client.stats().held_bytes, 0, "bytes of the share leaked");
        }
    }
}

impl Part {
    /// What is answered to a request that goes to the pool id, if it is not carried out.
    pub(super) fn refusal(&self) -> Option<Status> {
        match (self.is_open, self.is_allowed) {
            (false, _) => Some(Status::NO_POOL),
            (true, false) => Some(Status::NO_SHARE),
            (true, true) => None,
        }
    }

    /// The driver has asked for the share.
    pub(super) fn opened(&mut self, status: Status) {
        let expected = match (self.is_allowed, self.is_open) {
            (false, _) => Status::NO_SHARE,
            (true, false) => Status::OK,
            (true, true) => Status::EXISTS,
        };
        assert_eq!(status, expected);
        self.is_open |= self.is_allowed;
    }

    /// The driver has let go of it.
    pub(super) fn closed(&mut self, answer: &Answer) {
        let expected = match self.is_open {
            true => Status::OK,
            false => Status::NO_POOL,
        };
        assert_eq!((answer.status(), answer.header().pages), (expected, 0));
        self.is_open = false;
    }

    /// The operator gives the share, or takes it away.
    pub(super) fn turn(&mut self) {
        match self.is_allowed {
            true => assert!(self.allowed.take(&GOLDEN)),
            false => self.allowed.give(GOLDEN),
        }
        self.is_allowed = !self.is_allowed;
    }
}
