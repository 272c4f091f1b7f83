// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pools that several VMs have (spec sections 6.9 and 6.10): which pool ids of a driver stand for which share. Who
//! may have a share is not known here, and is asked at each request, so that what is taken away is gone
//! at once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tmem_store::Pool;
use tmem_wire::ShareId;

use super::fault::Fault;
use super::parse::WantedShare;
use super::verifier::Verifier;

/// The pool of a share.
#[derive(Clone, Debug)]
pub struct SharedPool {
    /// An ephemeral one.
    pub pool: Pool,
    /// What pages have to pass that are put, in a verified share.
    pub verifier: Option<Arc<Verifier>>,
}

/// The shares that one VM may have.
pub trait Shares: Debug + Send + Sync {
    /// The pool of the share `id`; `None` if there is no such share, or not for this VM. Asked for each
    /// request to a share, on the thread that serves it: it must not wait.
    fn pool(&self, id: &ShareId) -> Option<SharedPool>;
}

/// What a driver has made of them.
#[derive(Debug, Default)]
pub(super) struct Shared {
    shares: Option<Arc<dyn Shares>>,
    ids: RwLock<BTreeMap<u32, WantedShare>>,
}

impl Shared {
    pub(super) fn new(shares: Arc<dyn Shares>) -> Self {
        Self {
            shares: Some(shares),
            ids: RwLock::default(),
        }
    }

    /// The pool that the driver calls `id`; `None` if that is not a share's.
    ///
    /// # Errors
    /// [`Fault::NoShare`], if the VM may not have the share any more.
    pub(super) fn pool(&self, id: u32) -> Option<Result<SharedPool, Fault>> {
        let share = *self.read().get(&id)?;
        Some(self.open(&share))
    }

    /// A share of the other sort is none: what a driver takes for verified must be.
    fn open(&self, share: &WantedShare) -> Result<SharedPool, Fault> {
        let shares = self.shares.as_ref();
        let pool = shares.and_then(|shares| shares.pool(&share.id));
        pool.filter(|pool| pool.verifier.is_some() == share.is_verified)
            .ok_or(Fault::NoShare)
    }

    /// Keeps pool ids from changing what they stand for.
    pub(super) fn change(&self) -> Change<'_> {
        Change {
            shared: self,
            ids: self.ids.write().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<u32, WantedShare>> {
        self.ids.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pool ids, one of which gets or loses its share.
pub(super) struct Change<'a> {
    shared: &'a Shared,
    ids: RwLockWriteGuard<'a, BTreeMap<u32, WantedShare>>,
}

impl Change<'_> {
    /// Whether `id` stands for a share.
    pub(super) fn has(&self, id: u32) -> bool {
        self.ids.contains_key(&id)
    }

    /// Has `id` stand for `share`; whether it did not before.
    ///
    /// # Errors
    /// [`Fault::NoShare`], [`Fault::PoolConflict`], or [`Fault::UnknownPoolSpec`] if this device knows of
    /// no shares at all.
    pub(super) fn add(&mut self, id: u32, share: WantedShare) -> Result<bool, Fault> {
        if self.shared.shares.is_none() {
            return Err(Fault::UnknownPoolSpec);
        }
        self.shared.open(&share)?;
        match self.ids.entry(id) {
            Entry::Occupied(found) if *found.get() != share => Err(Fault::PoolConflict),
            Entry::Occupied(_) => Ok(false),
            Entry::Vacant(vacant) => {
                vacant.insert(share);
                Ok(true)
            }
        }
    }

    /// Has `id` stand for no share; whether it did.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        self.ids.remove(&id).is_some()
    }

    /// Has no id stand for a share.
    pub(super) fn clear(&mut self) {
        self.ids.clear();
    }
}
