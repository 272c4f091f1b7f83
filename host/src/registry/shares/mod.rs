// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Shares: ephemeral pools that several virtual machines have (sections 6.9 and 6.10 of the
//! specification).
//!
//! A share is for the machines that its operator has named, as long as they belong to its trust domain,
//! unless it is verified; nobody else finds it. This is asked at each request, so what is taken from a machine is gone at once.

mod allowed;
mod settings;
mod share;
mod verity;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::{Context, Result, ensure};
use tmem_store::Store;
use virtio_tmem::device::SharedPool;
use virtio_tmem::wire::ShareId;

use super::folder::Folder;
use super::name::Name;
use super::refusal::Refusal;
use super::state::State;
use allowed::Allowed;
pub use settings::{ShareSaid, ShareSettings, Trust};
pub use share::Share;
pub use verity::{VeritySaid, VeritySettings};

/// All shares.
#[derive(Debug)]
pub struct Shares {
    store: Store,
    /// Where they are kept; `None`: they are forgotten at the end.
    folder: Option<Folder>,
    known: RwLock<Known>,
    /// Held while something changes.
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<Name, Arc<Share>>,
    by_id: BTreeMap<ShareId, Arc<Share>>,
    /// The machines that are served, with their trust domains.
    domains: BTreeMap<Name, Option<Name>>,
}

impl Shares {
    /// None yet, in this store.
    pub fn new(store: Store, state: Option<&State>) -> Self {
        Self {
            store,
            folder: state.map(|state| state.shares().clone()),
            known: RwLock::default(),
            changing: Mutex::new(()),
        }
    }

    /// Makes those that were made in an earlier run. Their pages are gone.
    ///
    /// # Errors
    /// A sentence about what keeps one from being made.
    pub fn restore(&self) -> Result<()> {
        let _changing = self.change();
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        for (name, path, said) in folder.read::<ShareSaid>()? {
            let at = || format!("'{}'", path.display());
            let settings = said.settings().map_err(anyhow::Error::msg);
            let settings = settings.with_context(at)?;
            ensure!(
                !self.read().by_id.contains_key(settings.uuid.as_bytes()),
                "'{}': another share has this UUID",
                path.display()
            );
            let share = Share::new(&self.store, name, settings).with_context(at)?;
            self.insert(share);
        }
        Ok(())
    }

    /// All, by name.
    pub fn list(&self) -> Vec<Arc<Share>> {
        self.read().by_name.values().cloned().collect()
    }

    /// The one of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, name: &str) -> Result<Arc<Share>, Refusal> {
        let share = name
            .parse::<Name>()
            .ok()
            .and_then(|name| self.read().by_name.get(&name).cloned());
        share.ok_or_else(|| Refusal::Unknown(format!("there is no share {name:?}")))
    }

    /// Whether shares are there again after a restart.
    pub fn are_kept(&self) -> bool {
        self.folder.is_some()
    }

    /// Makes a share.
    ///
    /// # Errors
    /// Why not.
    pub fn add(&self, name: &str, said: &ShareSaid) -> Result<Arc<Share>, Refusal> {
        let name: Name = name.parse().map_err(Refusal::Invalid)?;
        let settings = said.settings().map_err(Refusal::Invalid)?;
        let _changing = self.change();
        {
            let known = self.read();
            if known.by_name.contains_key(&name) {
                let reason = format!(
                    "there is a share '{name}' already; remove it first, or change its settings"
                );
                return Err(Refusal::Conflict(reason));
            }
            if let Some(other) = known.by_id.get(settings.uuid.as_bytes()) {
                let reason = format!("the share '{}' has this UUID", other.name());
                return Err(Refusal::Conflict(reason));
            }
            known.judge(&settings.trust, settings.vms.iter())?;
        }
        let share = Share::new(&self.store, name.clone(), settings.clone())?;
        if let Err(error) = self.keep(&name, &settings) {
            share.end();
            return Err(error);
        }
        log::info!("share {name}: added");
        Ok(self.insert(share))
    }

    /// Changes who may have a share, or what it may hold.
    ///
    /// # Errors
    /// Why not.
    pub fn set(&self, name: &str, said: &ShareSaid) -> Result<Arc<Share>, Refusal> {
        let _changing = self.change();
        let share = self.get(name)?;
        let before = share.settings();
        let settings = said.changed(&before).map_err(Refusal::Invalid)?;
        let more = settings.vms.difference(&before.vms);
        self.read().judge(&settings.trust, more)?;
        self.keep(share.name(), &settings)?;
        share.set(settings);
        log::info!("share {name}: changed");
        Ok(share)
    }

    /// Takes a share from all that have it, and destroys its pages.
    ///
    /// # Errors
    /// Why not.
    pub fn remove(&self, name: &str) -> Result<(), Refusal> {
        let _changing = self.change();
        let share = self.get(name)?;
        if let Some(folder) = &self.folder {
            folder.remove(share.name())?;
        }
        {
            let mut known = self.write();
            known.by_name.remove(share.name());
            known.by_id.remove(share.settings().uuid.as_bytes());
        }
        share.end();
        log::info!("share {name}: removed");
        Ok(())
    }

    /// The machine `vm` is served, and belongs to this trust domain.
    pub(super) fn set_domain(&self, vm: &Name, domain: Option<&Name>) {
        let domains = &mut self.write().domains;
        domains.insert(vm.clone(), domain.cloned());
    }

    /// The machine `vm` is not served any more.
    pub(super) fn left(&self, vm: &Name) {
        self.write().domains.remove(vm);
    }

    /// Takes all shares from the machine `vm`: the next of its name is another one.
    ///
    /// # Errors
    /// When that cannot be kept.
    pub(super) fn forget(&self, vm: &Name) -> Result<(), Refusal> {
        let _changing = self.change();
        for share in self.list() {
            let mut settings = share.settings();
            if settings.vms.remove(vm) {
                self.keep(share.name(), &settings)?;
                share.set(settings);
            }
        }
        Ok(())
    }

    /// What the machine `vm` may have of them, for its device.
    pub fn of(self: &Arc<Self>, vm: &Name) -> Arc<dyn virtio_tmem::device::Shares> {
        Arc::new(Allowed {
            shares: self.clone(),
            vm: vm.clone(),
        })
    }

    fn pool(&self, vm: &Name, id: &ShareId) -> Option<SharedPool> {
        let known = self.read();
        let domain = known.domains.get(vm)?.as_ref();
        known.by_id.get(id)?.pool(vm, domain)
    }

    fn keep(&self, name: &Name, settings: &ShareSettings) -> Result<(), Refusal> {
        if let Some(folder) = &self.folder {
            folder.write(name, &ShareSaid::from(settings))?;
        }
        Ok(())
    }

    fn insert(&self, share: Share) -> Arc<Share> {
        let share = Arc::new(share);
        let mut known = self.write();
        let id = share.settings().uuid.into_bytes();
        known.by_id.insert(id, share.clone());
        known.by_name.insert(share.name().clone(), share.clone());
        share
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Judges machines that are to have a share: one that it is not for would be refused without a word.
    fn judge<'a>(&self, trust: &Trust, vms: impl Iterator<Item = &'a Name>) -> Result<(), Refusal> {
        for vm in vms {
            let reason = match (self.domains.get(vm), trust) {
                (None, _) => format!("there is no virtual machine '{vm}'; add it first"),
                (Some(own), Trust::Domain(domain)) if own.as_ref() != Some(domain) => format!(
                    "'{vm}' is not of the domain {domain}: say so first with `tmemctl vm set {vm} --domain {domain}`"
                ),
                (Some(_), _) => continue,
            };
            return Err(Refusal::Conflict(reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
