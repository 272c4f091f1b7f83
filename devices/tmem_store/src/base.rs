// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Clones: clients that have the same pages until they put others.
//!
//! A client that is cloned becomes a *base*: its pools, its part of page memory and its budget stay what
//! they are, and no client changes them any more. It and its clone go on as new clients of the store,
//! whose pools are over those of the base ([`crate::pool`], `below`). So a clone takes the same time
//! whatever there is, and pages that nobody changes are there once. A base is a client like others
//! for who cleans, compresses, demotes and evicts. It ends with the last client that was made over it.

use crate::budget::{Budget, Shortage};
use crate::config::ClientConfig;
use crate::pool::Pages;
use crate::reclaim::{Effort, Member, Request};
use crate::sync::Arc;
use crate::sync::atomic::Ordering::Relaxed;
use crate::tier::PoolTag;
use crate::types::{Identity, PoolKind};

/// Pages that several clients have.
#[derive(Debug)]
pub struct Base {
    member: Arc<Member>,
    below: Option<Arc<Base>>,
}

impl Base {
    /// What a client is, and still is until [`Base::freeze`].
    pub(crate) fn of(layer: &Layer) -> Arc<Self> {
        Arc::new(Self {
            member: layer.member.clone(),
            below: layer.base.clone(),
        })
    }

    /// No client changes it from now on.
    pub(crate) fn freeze(&self) {
        let budget = &self.member.budget;
        // Nothing is hidden, or put, by it any more.
        budget.end_all_aside();
        budget.set_quota(u64::MAX);
        budget.ephemeral.set_quota(u64::MAX);
        budget.set_frozen(false);
        self.member.is_base.store(true, Relaxed);
    }

    /// What an earlier store has left of one.
    pub(crate) fn left(layer: &Layer) -> Arc<Self> {
        let base = Self::of(layer);
        base.freeze();
        base
    }

    /// By what the store knows its pages.
    pub fn identity(&self) -> Identity {
        self.member.budget.identity
    }

    /// What of it could not be read in the spill area when it was taken over, as
    /// [`ClientStats::spill_read_errors`](crate::ClientStats::spill_read_errors).
    pub fn read_errors(&self) -> u64 {
        self.member.budget.counters.spill_read_errors.get()
    }

    /// The base that this one is over.
    pub fn below(&self) -> Option<&Arc<Self>> {
        self.below.as_ref()
    }

    /// Bases from this one on.
    pub(crate) fn depth(&self) -> usize {
        let mut next = self.below.as_ref();
        let mut depth = 1;
        while let Some(base) = next {
            depth += 1;
            next = base.below.as_ref();
        }
        depth
    }

    /// Its pools, as clients number them.
    fn pools(&self) -> Vec<(u32, Arc<Pages>)> {
        self.member.visible_pools()
    }

    /// Bytes of its persistent pools, those of others below included.
    pub(crate) fn bytes(&self) -> u64 {
        let pools = self.pools().into_iter().map(|(_, pool)| pool);
        let persistent = pools.filter(|pool| pool.kind() == PoolKind::Persistent);
        persistent.map(|pool| pool.all_bytes()).sum()
    }

    /// Pages of it, those of others below included.
    fn pages(&self) -> u64 {
        self.pools().iter().map(|(_, pool)| pool.count()).sum()
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        if self.member.is_base.load(Relaxed) {
            self.member.end();
        }
    }
}

/// What a client is in the store at a time.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) member: Arc<Member>,
    /// What its pools are over.
    pub(crate) base: Option<Arc<Base>>,
}

impl Layer {
    /// Makes a pool that an earlier store has made.
    pub(crate) fn adopt_pool(&self, tag: PoolTag) -> Arc<Pages> {
        let member = &self.member;
        member.made_after(tag);
        if let Some(there) = member.pool(tag.id()) {
            return there;
        }
        let of_base = self
            .base
            .as_ref()
            .and_then(|base| base.member.pool(tag.visible_id()));
        let of_base = of_base.filter(|pool| !tag.is_visible() || pool.kind() == tag.kind());
        let pool = match of_base {
            Some(pages) if tag.is_visible() => self.over(tag, None, &pages),
            Some(pages) => Pages::hiding(member.budget.clone(), tag, &pages),
            None => Pages::new(member.budget.clone(), tag, None),
        };
        member.budget.charge_anyway(Pages::COST);
        let pool = Arc::new(pool);
        member.pools_mut().insert(tag.id(), pool.clone());
        pool
    }

    /// A pool over one of a base.
    fn over(&self, tag: PoolTag, quota: Option<u64>, pages: &Arc<Pages>) -> Pages {
        let whiteouts = self.adopt_pool(PoolTag::hidden(PoolTag::hiding(tag.id())));
        let marks = self.adopt_pool(PoolTag::hidden(PoolTag::MARKS));
        let budget = self.member.budget.clone();
        Pages::over(budget, tag, quota, pages, (&whiteouts, &marks))
    }

    /// Makes the pools of the base, each over that.
    fn make_pools(&self) {
        for (id, pages) in self.base.as_deref().map(Base::pools).unwrap_or_default() {
            let tag = self.member.tag(id, pages.kind());
            let pool = self.over(tag, pages.quota(), &pages);
            self.member.budget.charge_anyway(Pages::COST);
            self.member.pools_mut().insert(id, Arc::new(pool));
        }
    }

    /// Has the pools of the base after an earlier store, beside those that it had pages of its own in.
    pub(crate) fn make_other_pools(&self) {
        let Some(base) = &self.base else {
            return;
        };
        for (id, pages) in base.pools() {
            let there = self.member.pool(id);
            let pool = there.unwrap_or_else(|| self.adopt_pool(self.member.tag(id, pages.kind())));
            if pool.goes_on_over() {
                continue;
            }
            let whiteouts = self.member.pools_mut().remove(&PoolTag::hiding(id));
            if let Some(whiteouts) = whiteouts {
                whiteouts.destroy();
            }
            if pool.count_itself() == 0 {
                self.member.pools_mut().remove(&id);
                pool.destroy();
            }
        }
        self.member.budget.set_aside_anyway(base.pages());
    }

    /// The same, over a base only if it sees anything of that.
    pub(crate) fn as_base(&self) -> Self {
        let pools = self.member.pools();
        let is_over = pools.values().any(|pool| pool.is_over());
        Self {
            member: self.member.clone(),
            base: self.base.clone().filter(|_| is_over),
        }
    }

    /// Whether it differs in nothing from its base.
    pub(crate) fn is_as_its_base(&self) -> bool {
        let Some(base) = &self.base else {
            return false;
        };
        let pools = self.member.pools();
        let is_same = |pool: &Arc<Pages>| !pool.tag().is_visible() || pool.is_over();
        let mut visible = pools.keys().filter(|id| **id <= PoolTag::MOST);
        pools
            .values()
            .all(|pool| is_same(pool) && pool.count_itself() == 0)
            && base
                .pools()
                .iter()
                .all(|(id, _)| visible.next() == Some(id))
    }

    /// The same client as another one, over a base, and without pages. Nobody knows of it yet.
    pub(crate) fn successor(&self, base: &Arc<Base>) -> Result<Self, CloneError> {
        let before = &self.member.budget;
        let identity = Identity::random().map_err(|_| CloneError::NoMemory)?;
        let config = ClientConfig {
            name: before.name.clone(),
            identity: Some(identity),
            quota: before.quota(),
            max_pools: 0,
            weight: before.weight(),
        };
        let budget = Budget::new(before.store.clone(), identity, config);
        budget.ephemeral.set_quota(before.ephemeral.quota());
        budget.set_compression(before.compression());
        budget.set_frozen(before.is_frozen());
        let member = self.member.successor(Arc::new(budget));
        let mut aside = Aside {
            budget: &member.budget,
            pages: base.pages(),
        };
        let found = member.retry(&mut aside, &mut Effort::run());
        found.map_err(|_| CloneError::NoMemory)?;
        Ok(Self {
            member,
            base: Some(base.clone()),
        })
    }

    /// Has it be in the store from now on, with the pages of its base.
    pub(crate) fn begin(&self, before: &Self) -> Result<(), CloneError> {
        if self.member.join().is_err() {
            self.member.budget.end_all_aside();
            return Err(CloneError::NoMemory);
        }
        before
            .member
            .budget
            .counters
            .hand_over(&self.member.budget.counters);
        self.make_pools();
        Ok(())
    }
}

/// Memory that is set aside.
struct Aside<'a> {
    budget: &'a Budget,
    pages: u64,
}

impl Request for Aside<'_> {
    type Done = ();

    fn run(&mut self) -> Result<(), Shortage> {
        let is_there = self.budget.set_aside_for(self.pages);
        is_there.then_some(()).ok_or(Shortage::Store)
    }

    fn kind(&self) -> PoolKind {
        PoolKind::Persistent
    }
}

/// Why a client cannot be cloned without its pages being copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloneError {
    /// Its pages are over so many bases already that gets would become slow.
    #[error("its pages are over {0} bases already")]
    TooDeep(usize),
    /// The store has no memory, or no place for another client.
    #[error("the store has no memory for another clone")]
    NoMemory,
    /// Its pages are more than the quota of the clone.
    #[error("{bytes} bytes are more than the quota of the clone")]
    Quota {
        /// Bytes that count for the quota of who has them.
        bytes: u64,
    },
    /// What has to be known of it could not be noted.
    #[error("it could not be noted for the next store")]
    Unnoted,
}
