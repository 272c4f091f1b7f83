// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The pages of the block device that the filter is attached to, with faults on demand.

pub(crate) mod cache;
pub(crate) mod swap;

use crate::sys::irq_lock::IrqLock;
use crate::world::Scene;
use cache::Cache;
use std::cell::Cell;
use std::sync::Arc;
use swap::Swap;

pub(crate) enum PageState {
    Swap(Box<Swap>),
    Cache(Box<Cache>),
}

#[derive(Default)]
pub(crate) struct Counter(Cell<u64>);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.set(self.0.get() + more);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) puts: Counter,
    pub(crate) refused: Counter,
    pub(crate) skipped: Counter,
    pub(crate) invalidates: Counter,
    pub(crate) vanished: Counter,
    pub(crate) forgotten: Counter,
    pub(crate) written_back: Counter,
    pub(crate) errors: Counter,
    pub(crate) evicted: Counter,
    pub(crate) changed: Counter,
    pub(crate) nameless: Counter,
}

pub(crate) struct Area {
    pub(crate) known: IrqLock<PageState>,
    is_ready: Cell<bool>,
    /// What is got is removed.
    pub(crate) is_exclusive: bool,
    /// The pages are those of a share.
    is_shared: bool,
    pub(crate) counts: Counts,
}

impl Area {
    pub(crate) fn new(scene: &Scene, pages: u64) -> Arc<Self> {
        let fault = scene.fault;
        let known = if scene.is_swap {
            PageState::Swap(Box::new(Swap::new(pages, fault)))
        } else {
            PageState::Cache(Box::new(Cache::new(pages, scene.is_shared, fault)))
        };
        Arc::new(Self {
            known: IrqLock::new(known),
            is_ready: Cell::new(true),
            is_exclusive: scene.is_victim,
            is_shared: scene.is_shared,
            counts: Counts::default(),
        })
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.get()
    }

    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.is_ready.set(is_ready);
    }

    pub(crate) fn swap<R>(&self, work: impl FnOnce(&mut Swap) -> R) -> Option<R> {
        match &mut *self.known.lock() {
            PageState::Swap(swap) => Some(work(swap)),
            PageState::Cache(_) => None,
        }
    }

    pub(crate) fn cache<R>(&self, work: impl FnOnce(&mut Cache) -> R) -> Option<R> {
        match &mut *self.known.lock() {
            PageState::Swap(_) => None,
            PageState::Cache(cache) => Some(work(cache)),
        }
    }

    pub(crate) fn lose_all(&self) {
        if self.is_shared {
            // Each page is asked for all the same.
            return;
        }
        if self.cache(Cache::lose_all).is_some() {
            while self.cache(|cache| {
                cache.forget_some();
                cache.is_forgetting()
            }) == Some(true)
            {}
        }
        let mut next = Some(0);
        while let Some(first) = next {
            next = self.swap(|swap| swap.lose_some(first)).flatten();
        }
    }
}
