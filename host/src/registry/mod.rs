// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtual machines that this host serves: added, changed and removed at run time.
//!
//! Settings come from the command line, from files of the administrator
//! ([`files`]), and from the control API; what that has made is kept in a [`State`]
//! directory. A [`Door`] makes a [`Machine`] of them.
//!
//! Changes are made one after the other. A change is on the disk before it is told to be
//! made; what cannot be written is not done.

mod disk;
mod entry;
pub mod files;
mod folder;
mod judged;
mod machine;
mod name;
mod refusal;
mod removal;
mod settings;
mod shares;
mod state;
pub mod values;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use anyhow::{Context, Result, ensure};
use tmem_cli::size;

pub use disk::Disk;
pub use entry::{Entry, Origin};
pub use machine::{Connection, Door, Fill, Machine, NoBase, Still};
pub use name::Name;
pub use refusal::Refusal;
pub use removal::Removal;
pub use settings::{Amount, Defaults, MOST, Said, Settings};
pub use shares::{Share, ShareSaid, ShareSettings, Shares, Trust, VeritySaid, VeritySettings};
pub use state::State;

/// Virtual machines by name.
#[derive(Debug)]
pub struct Registry {
    door: Box<dyn Door>,
    defaults: Defaults,
    state: Option<State>,
    shares: Option<Arc<Shares>>,
    machines: RwLock<BTreeMap<Name, Arc<Entry>>>,
    /// Held while something changes.
    changing: Mutex<()>,
}

impl Registry {
    /// Serves nobody yet. Without a state directory, what the control API makes is
    /// forgotten at the end.
    pub fn new(door: Box<dyn Door>, defaults: Defaults, state: Option<State>) -> Self {
        Self {
            door,
            defaults,
            state,
            shares: None,
            machines: RwLock::default(),
            changing: Mutex::new(()),
        }
    }

    /// The same registry, whose machines may have these shares. Their door has them, too.
    pub fn with_shares(self, shares: Arc<Shares>) -> Self {
        Self {
            shares: Some(shares),
            ..self
        }
    }

    /// What machines have together.
    ///
    /// # Errors
    /// When that is not possible here.
    pub fn shares(&self) -> Result<&Arc<Shares>, Refusal> {
        let why = "the virtual machines of this program have no shares";
        let shares = self.shares.as_ref();
        shares.ok_or_else(|| Refusal::Conflict(why.into()))
    }

    /// All shares, by name.
    pub fn all_shares(&self) -> Vec<Arc<Share>> {
        let shares = self.shares.as_ref();
        shares.map(|shares| shares.list()).unwrap_or_default()
    }

    /// All virtual machines, by name.
    pub fn list(&self) -> Vec<Arc<Entry>> {
        self.machines().values().cloned().collect()
    }

    /// The one of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, name: &str) -> Result<Arc<Entry>, Refusal> {
        let key: Name = name.parse().map_err(|_| Refusal::unknown(name))?;
        let machines = self.machines();
        let entry = machines.get(&key).cloned();
        entry.ok_or_else(|| Refusal::unknown(name))
    }

    /// Whether the settings of `entry` are there again after a restart.
    pub fn is_kept(&self, entry: &Entry) -> bool {
        *entry.origin() == Origin::Api && self.state.is_some()
    }

    /// Begins to serve what the program was started with.
    ///
    /// # Errors
    /// A sentence about what keeps it from being served.
    pub fn open(&self, name: Name, settings: Settings, origin: Origin) -> Result<()> {
        let _changing = self.change();
        self.ensure_new(&name)?;
        let opened = self.open_door(&name, &settings);
        let machine = opened.with_context(|| format!("cannot serve '{name}'"))?;
        self.insert(name, settings, origin, machine);
        Ok(())
    }

    /// Takes over a machine that the program has opened itself.
    ///
    /// # Errors
    /// When there is one of this name.
    pub fn adopt(&self, name: Name, settings: Settings, machine: Arc<dyn Machine>) -> Result<()> {
        let _changing = self.change();
        self.ensure_new(&name)?;
        self.insert(name, settings, Origin::CommandLine, machine);
        Ok(())
    }

    /// Begins to serve what the control API made in an earlier run.
    ///
    /// # Errors
    /// A sentence about what keeps it from being served.
    pub fn restore(&self) -> Result<()> {
        let Some(state) = &self.state else {
            return Ok(());
        };
        for (name, path, said) in state.read()? {
            let at = || format!("'{}'", path.display());
            let settings = said.over(&self.defaults).map_err(anyhow::Error::msg);
            self.open(name, settings.with_context(at)?, Origin::Api)
                .with_context(at)?;
        }
        Ok(())
    }

    /// Begins to serve a machine for the control API.
    ///
    /// # Errors
    /// Why not.
    pub fn add(&self, name: &str, said: &Said) -> Result<Arc<Entry>, Refusal> {
        let name: Name = name.parse().map_err(Refusal::Invalid)?;
        self.ensure_not_shut()?;
        if said.socket.is_some() {
            let reason = "the socket is made in the runtime directory: leave its path out, or use a file of settings";
            return Err(Refusal::Invalid(reason.into()));
        }
        if said.identity.is_some() {
            let reason = "a virtual machine is known by its name: leave its identity out, or use a file of settings";
            return Err(Refusal::Invalid(reason.into()));
        }
        let settings = said.over(&self.defaults).map_err(Refusal::Invalid)?;
        let _changing = self.change();
        let there = self.machines().get(&name).cloned();
        if let Some(there) = there {
            ensure_stays(&there)?;
            let reason = format!(
                "there is a virtual machine '{name}' already; remove it first, or change its settings"
            );
            return Err(Refusal::Conflict(reason));
        }
        let machine = self.open_door(&name, &settings)?;
        if let Some(state) = &self.state
            && let Err(error) = state.write(&name, &settings)
        {
            machine.end();
            self.left(&name);
            return Err(error.into());
        }
        log::info!("{name}: added");
        Ok(self.insert(name, settings, Origin::Api, machine))
    }

    /// Changes settings of a machine, and tells its driver.
    ///
    /// # Errors
    /// Why not.
    pub fn set(&self, name: &str, said: &Said) -> Result<Arc<Entry>, Refusal> {
        let fixed = [
            (said.socket.is_some(), "socket"),
            (said.identity.is_some(), "identity"),
            (said.personality.is_some(), "personality"),
            (said.size.is_some(), "size"),
            (said.swapspace.is_some(), "swapspace"),
            (said.label.is_some(), "label"),
            (said.on_full.is_some(), "on_full"),
            (said.max_pools.is_some(), "max_pools"),
            (said.give_back.is_some(), "give_back"),
        ];
        if let Some((_, what)) = fixed.iter().find(|(is_said, _)| *is_said) {
            let reason = format!(
                "{what} stays what it is while the virtual machine is served; remove it and add it anew"
            );
            return Err(Refusal::Invalid(reason));
        }
        let _changing = self.change();
        let entry = self.get(name)?;
        ensure_stays(&entry)?;
        let before = entry.settings();
        let settings = said.changed(&before).map_err(Refusal::Invalid)?;
        let judged = entry.machine().judge(&settings);
        judged.map_err(Refusal::Invalid)?;
        if let Some(state) = self.state.as_ref().filter(|_| self.is_kept(&entry)) {
            state.write(entry.name(), &settings)?;
        }
        apply(&entry, &before, &settings);
        if let Some(shares) = &self.shares {
            shares.set_domain(entry.name(), settings.domain.as_ref());
        }
        entry.set_settings(settings);
        Ok(entry)
    }

    /// Ends the connection of a machine, destroys its pools and removes its socket. Returns when this is
    /// done.
    ///
    /// # Errors
    /// Why not.
    pub fn remove(self: &Arc<Self>, name: &str) -> Result<(), Refusal> {
        self.begin_removal(name)?.end();
        Ok(())
    }

    /// Begins to remove a machine, which takes no time; the rest may.
    ///
    /// # Errors
    /// Why not.
    pub fn begin_removal(self: &Arc<Self>, name: &str) -> Result<Removal, Refusal> {
        let _changing = self.change();
        let entry = self.get(name)?;
        ensure_stays(&entry)?;
        self.ensure_not_shut()?;
        match entry.origin() {
            Origin::Api => {}
            Origin::File(path) => {
                let reason = format!(
                    "'{name}' is in '{}': remove that file and start the daemon again",
                    path.display()
                );
                return Err(Refusal::Conflict(reason));
            }
            Origin::ServiceManager => {
                let reason = format!(
                    "the service manager has the socket of '{name}': disable its socket unit, and start the daemon again"
                );
                return Err(Refusal::Conflict(reason));
            }
            Origin::CommandLine => {
                let reason = format!(
                    "'{name}' is on the daemon's command line: start the daemon without it"
                );
                return Err(Refusal::Conflict(reason));
            }
        }
        if let Some(shares) = &self.shares {
            shares.forget(entry.name())?;
        }
        if let Some(state) = &self.state {
            state.remove(entry.name())?;
        }
        self.left(entry.name());
        entry.set_removed(true);
        Ok(Removal::new(self.clone(), entry))
    }

    /// Lists a machine no more, which has ended.
    fn forget(&self, entry: &Entry) {
        let _changing = self.change();
        let mut machines = self
            .machines
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        machines.remove(entry.name());
        drop(machines);
        log::info!("{}: removed", entry.name());
    }

    /// Has the door open a machine, which may have what its domain has from the first request on.
    fn open_door(&self, name: &Name, settings: &Settings) -> Result<Arc<dyn Machine>> {
        if let Some(shares) = &self.shares {
            shares.set_domain(name, settings.domain.as_ref());
        }
        let opened = self.door.open(name, settings);
        opened.inspect_err(|_| self.left(name))
    }

    fn left(&self, name: &Name) {
        if let Some(shares) = &self.shares {
            shares.left(name);
        }
    }

    fn insert(
        &self,
        name: Name,
        settings: Settings,
        origin: Origin,
        machine: Arc<dyn Machine>,
    ) -> Arc<Entry> {
        let client = machine.device().client();
        client.set_ephemeral_quota(settings.ephemeral_quota);
        if settings.frozen {
            freeze(&name, &*machine, true);
        }
        let socket = self.door.socket(&name, &settings);
        let entry = Entry::new(name.clone(), origin, socket, settings, machine);
        let entry = Arc::new(entry);
        let mut machines = self
            .machines
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        machines.insert(name, entry.clone());
        entry
    }

    fn ensure_not_shut(&self) -> Result<(), Refusal> {
        match self.door.is_shut() {
            Some(reason) => Err(Refusal::Conflict(reason.to_owned())),
            None => Ok(()),
        }
    }

    fn ensure_new(&self, name: &Name) -> Result<()> {
        ensure!(
            !self.machines().contains_key(name),
            "two virtual machines are named '{name}'; give one of them another name"
        );
        Ok(())
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn machines(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Name, Arc<Entry>>> {
        self.machines.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses what is asked of a machine that is about to be removed.
fn ensure_stays(entry: &Entry) -> Result<(), Refusal> {
    if entry.is_removed() {
        let reason = format!(
            "'{}' is being removed, which waits for what is being done for it; try again when that is done",
            entry.name()
        );
        return Err(Refusal::Conflict(reason));
    }
    Ok(())
}

/// Has a machine work with other settings.
fn apply(entry: &Entry, before: &Settings, now: &Settings) {
    let (name, machine) = (entry.name(), entry.machine());
    let device = machine.device();
    if now.quota != before.quota {
        device.set_quota(now.quota);
        // One on credit follows from what was given back.
        machine.look_after();
        let bytes = device.client().stats().quota_bytes;
        log::info!("{name}: quota set to {}", size::show(bytes));
    }
    if now.ephemeral_quota != before.ephemeral_quota {
        device.client().set_ephemeral_quota(now.ephemeral_quota);
        let shown = now.ephemeral_quota.map(size::show);
        let shown = shown.unwrap_or_else(|| "all of the quota".into());
        log::info!("{name}: quota of ephemeral pages set to {shown}");
    }
    if now.weight != before.weight {
        device.client().set_weight(now.weight);
        log::info!("{name}: weight set to {}", now.weight);
    }
    if now.codec != before.codec {
        device.client().set_compression(now.codec);
        log::info!("{name}: codec set to {}", now.codec.name());
    }
    if now.grace != before.grace {
        machine.set_grace(now.grace);
        log::info!("{name}: grace period set to {} s", now.grace.as_secs());
    }
    if now.swap_size != before.swap_size {
        device.set_swap_pages(now.swap_pages());
        log::info!("{name}: swap disk set to {}", size::show(now.swap_size));
    }
    if now.frozen != before.frozen {
        freeze(name, &**machine, now.frozen);
        log::info!("{name}: {}", if now.frozen { "frozen" } else { "thawed" });
    }
}

/// Freezes or thaws a machine. Settings that its device cannot have were refused before.
fn freeze(name: &Name, machine: &dyn Machine, frozen: bool) {
    if let Err(reason) = machine.device().set_frozen(frozen) {
        log::warn!("{name}: {reason}");
    }
}

#[cfg(test)]
mod tests;
