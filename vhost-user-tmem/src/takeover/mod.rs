// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a daemon takes over from the one before it: the store's page memory, and for each
//! virtual machine a note of what the pages alone do not say.

mod crashes;
mod note;

pub(crate) use note::{Note, QUEUES};

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tmem_host::keeper::Outside;
use tmem_host::personality::VmDevice;
use tmem_host::registry::Disk;
use tmem_store::{
    Base, Client, ClientConfig, Error, Identity, PageMemory, Recovery, Store, StoreConfig,
};
use uuid::Uuid;
use virtio_tmem::device::MAX_POOLS;

use crate::trace::Trace;
use note::{FileId, State, restore_pools};

/// Names of page memory and of a machine's note, outside.
const PAGES: &str = "pages";

/// Namespace of identities that are made from names.
const NAMES: Uuid = Uuid::from_u128(0x6f1f_7c0e_3f5a_4b0c_9a35_52e4_5e0c_1d3b);

/// Who a machine with this name is, if nothing else is said.
pub fn identity_of(name: &str) -> Uuid {
    Uuid::new_v5(&NAMES, name.as_bytes())
}

/// The store, and what an earlier one has left that no machine has yet.
#[derive(Debug)]
pub struct Takeover {
    store: Store,
    outside: Option<Arc<Outside>>,
    /// The file of the page memory.
    pages: FileId,
    left: Mutex<Option<Recovery>>,
    /// Bases that machines have, until all machines are there.
    bases: Mutex<Bases>,
    /// By name. A client that is dropped loses its pages, and these are to stay.
    served: Mutex<BTreeMap<String, Arc<dyn VmDevice>>>,
    /// Times that pages were there and could not be had.
    failures: AtomicU64,
    /// That the keeper is gone.
    is_said: AtomicBool,
}

impl Drop for Takeover {
    fn drop(&mut self) {
        if self.keeps_memory() {
            // The next daemon's.
            std::mem::forget(self.left().take());
            std::mem::forget(std::mem::take(&mut *self.bases()));
            std::mem::forget(std::mem::take(&mut *self.served()));
        }
    }
}

/// What becomes of a machine that is served again, or for the first time.
pub(crate) struct Taken {
    pub(crate) client: Client,
    /// Names its set of pools.
    pub(crate) instance: [u8; 16],
    /// How its memory was when it was served last.
    pub(crate) trace: Option<Trace>,
    /// Where what changes is noted.
    pub(crate) note: Option<Arc<Note>>,
}

impl Takeover {
    /// A store that does not outlive the process.
    ///
    /// # Errors
    /// As [`Store::new`].
    pub fn nothing(config: StoreConfig) -> Result<Self> {
        Ok(Self {
            store: Store::new(config)?,
            outside: None,
            pages: FileId::default(),
            left: Mutex::new(None),
            bases: Mutex::default(),
            served: Mutex::default(),
            failures: AtomicU64::new(0),
            is_said: AtomicBool::new(false),
        })
    }

    /// The store of the daemon before this one, or a new one that outlives this.
    ///
    /// # Errors
    /// A sentence, when it cannot be had.
    pub fn begin(store: Option<&Path>, holder: Option<&Path>, config: StoreConfig) -> Result<Self> {
        let outside = Outside::open(store, holder)?;
        if !outside.keeps_memory() {
            return Self::nothing(config);
        }
        let is_named = store.is_some();
        let file = outside.memory(PAGES)?;
        let mut pages = FileId::of(&file)?;
        let mut recovered = Store::recover(page_memory(file, is_named), config.clone());
        let mut failures = 0;
        let why = match &recovered {
            Err(Error::Damaged) => Some("is damaged".to_owned()),
            Err(Error::OtherVersion { found, known }) => Some(format!(
                "has layout version {found}, and this daemon reads versions up to {known}"
            )),
            _ => None,
        };
        if let Some(why) = why {
            log::error!(
                "the page memory of the daemon before this one {why}: all pages are lost, and \
                 drivers are told so"
            );
            failures = 1;
            outside.forget_memory(PAGES)?;
            let file = outside.memory(PAGES)?;
            pages = FileId::of(&file)?;
            recovered = Store::recover(page_memory(file, is_named), config);
        }
        let recovery = recovered?;
        Ok(Self {
            store: recovery.store().clone(),
            outside: Some(Arc::new(outside)),
            pages,
            left: Mutex::new(Some(recovery)),
            bases: Mutex::default(),
            served: Mutex::default(),
            failures: AtomicU64::new(failures),
            is_said: AtomicBool::new(false),
        })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How often pages of the daemon before this one were there, and could not be had.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Whether the store outlives the process.
    pub fn keeps_memory(&self) -> bool {
        self.outside.is_some()
    }

    fn left(&self) -> MutexGuard<'_, Option<Recovery>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bases(&self) -> MutexGuard<'_, Bases> {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn served(&self) -> MutexGuard<'_, BTreeMap<String, Arc<dyn VmDevice>>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pages of a machine that is served now stay when the daemon ends.
    pub(crate) fn hold(&self, name: &str, device: Arc<dyn VmDevice>) {
        if self.keeps_memory() {
            self.served().insert(name.to_owned(), device);
        }
    }

    /// Forgets a machine that is served no more, with its pages.
    pub fn forget(&self, name: &str) {
        let device = self.served().remove(name);
        if let (Some(_), Some(outside)) = (device, &self.outside)
            && let Err(error) = outside.forget_memory(&note_name(name))
        {
            log::warn!("{name}: {error:#}");
        }
    }

    /// Frees the pages of machines that are not served any more.
    pub fn end(&self) {
        let left = self.left().take();
        let bases = std::mem::take(&mut *self.bases());
        let Some(left) = left else {
            return;
        };
        let lost = bases.doubtful.iter().filter(|it| left.has(**it)).count();
        self.failures.fetch_add(lost as u64, Relaxed);
        let count = left.identities().count();
        if count > 0 {
            log::info!("freed the pages of {count} virtual machines that are not served any more");
        }
    }

    /// Says so, once, if the keeper is gone. To be called now and then.
    pub fn look(&self) {
        let Some(outside) = self.outside.as_ref().filter(|outside| !outside.is_there()) else {
            return;
        };
        if self.is_said.swap(true, Relaxed) {
            return;
        }
        if outside.keeps_more() {
            log::error!(
                "the holder is gone, with all that it kept: connections end with this daemon"
            );
        } else {
            log::error!(
                "the holder is gone, with all that it kept: pages and connections end with this \
                 daemon; before it is restarted, have guests bring their pages back (tmemctl vm \
                 detach)"
            );
        }
    }

    /// The machine's client with the pages that it had, if these are all there.
    ///
    /// # Errors
    /// When the store has no room, the system no random numbers or memory, or another
    /// process uses the machine's note.
    pub(crate) fn machine(
        &self,
        name: &str,
        identity: Uuid,
        personality: &str,
        config: ClientConfig,
    ) -> Result<Taken> {
        let identity = Identity::new(identity.into_bytes());
        let Some(outside) = self.outside.as_ref().filter(|outside| outside.keeps_more()) else {
            return Ok(Taken {
                client: self.store.add_client(config)?,
                instance: crate::instance::new()?,
                trace: None,
                note: None,
            });
        };
        let (note, earlier) = Note::open(outside.clone(), name)?;
        let is_of_these =
            |state: &State| state.pages == self.pages && state.identity == identity.bytes();
        let earlier = earlier.filter(is_of_these);
        let known = match &earlier {
            Some(state) => state.known(),
            None => (self.unknown(identity)?, Vec::new()),
        };
        let other = earlier
            .as_ref()
            .filter(|state| state.personality != personality);
        if let Some(other) = other {
            log::warn!(
                "{name}: what it had as {} is gone: it is {personality} now",
                other.personality
            );
        }
        let is_other = other.is_some();
        let earlier = earlier.filter(|_| !is_other);
        // What is missing on a disk would be read as zeros.
        let may_miss_pages = personality == Disk::NOT_ONE;
        let (client, is_whole) = self.client(name, known, config, may_miss_pages)?;
        let earlier = earlier.filter(|_| is_whole);
        let begun = match &earlier {
            Some(state) => go_on(name, &client, &note, state),
            None => {
                let mut state = State::new(self.pages, identity, personality);
                state.set_client(&client);
                begin_anew(&client, &note, state)
            }
        };
        match begun {
            Ok((instance, trace)) => Ok(Taken {
                client,
                instance,
                trace,
                note: Some(Arc::new(note)),
            }),
            Err(error) => {
                // Its pages are for a daemon that can serve it.
                std::mem::forget(client);
                Err(error)
            }
        }
    }

    /// By what the store is to know a machine of which there is no note: what is there by its identity is
    /// not its own. Others may be clones of one that had its name.
    fn unknown(&self, identity: Identity) -> Result<Identity> {
        let is_left = self.left().as_ref().is_some_and(|left| left.has(identity));
        if is_left {
            self.bases().doubtful.insert(identity);
        }
        if is_left || self.store.has_identity(identity) {
            return Ok(Identity::new(crate::instance::new()?));
        }
        Ok(identity)
    }

    /// The client with what it had, and whether that is all that it had.
    fn client(
        &self,
        name: &str,
        (identity, over): (Identity, Vec<Identity>),
        config: ClientConfig,
        may_miss_pages: bool,
    ) -> Result<(Client, bool)> {
        let mut left = self.left();
        let Some(recovery) = left.as_mut() else {
            let client = self.store.add_client(config.with_identity(identity))?;
            return Ok((client, false));
        };
        let mut bases = self.bases();
        let found = bases.find(recovery, &over);
        let client =
            found.and_then(|base| recovery.client_over(identity, config.clone(), base.as_ref()));
        match client {
            Ok(client) => {
                let of_bases = client.bases();
                let of_bases = of_bases.iter().map(|base| base.read_errors()).sum::<u64>();
                let lost = client.stats().spill_read_errors.saturating_add(of_bases);
                if lost == 0 {
                    return Ok((client, true));
                }
                let what = match may_miss_pages {
                    true => "the pages in them are lost, and no others",
                    false => "a disk that lacks some of its blocks is lost as a whole",
                };
                self.failures.fetch_add(1, Relaxed);
                log::error!(
                    "{name}: {lost} segments of 128 KiB in the spill area cannot be read: {what}"
                );
                Ok((client, may_miss_pages))
            }
            Err(Error::Damaged) => {
                self.failures.fetch_add(1, Relaxed);
                log::error!("{name}: its pages are damaged: all of them are lost");
                let client = self.store.add_client(config.with_identity(identity))?;
                Ok((client, false))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Bases that machines have.
#[derive(Debug, Default)]
struct Bases {
    all: BTreeMap<Identity, Arc<Base>>,
    /// Those whose pages are lost.
    damaged: BTreeSet<Identity>,
    /// Identities of machines without a note. What is there by them is a base, or lost.
    doubtful: BTreeSet<Identity>,
}

impl Bases {
    /// The first of these, each of which is over the next one.
    fn find(
        &mut self,
        recovery: &mut Recovery,
        over: &[Identity],
    ) -> Result<Option<Arc<Base>>, Error> {
        let mut below = None;
        for identity in over.iter().rev() {
            let base = match self.all.get(identity) {
                Some(base) => base.clone(),
                None if self.damaged.contains(identity) => return Err(Error::Damaged),
                None => recovery.base(*identity, below.as_ref()).inspect_err(|_| {
                    self.damaged.insert(*identity);
                })?,
            };
            self.all.insert(*identity, base.clone());
            below = Some(base);
        }
        Ok(below)
    }
}

fn note_name(name: &str) -> String {
    format!("vm+{name}")
}

/// Goes on with what the machine had: the name of its set of pools, and how its memory was.
fn go_on(
    name: &str,
    client: &Client,
    note: &Note,
    state: &State,
) -> Result<([u8; 16], Option<Trace>)> {
    restore_pools(client, state).with_context(|| format!("{name}: a pool cannot be made again"))?;
    note.begin(state.clone())?;
    let stats = client.stats();
    let pages = stats.persistent_pages.saturating_add(stats.ephemeral_pages);
    log::info!("{name}: took over {pages} pages in {} pools", stats.pools);
    Ok((state.instance, note.trace(state)))
}

/// Begins with another set of pools.
fn begin_anew(client: &Client, note: &Note, mut state: State) -> Result<([u8; 16], Option<Trace>)> {
    let instance = crate::instance::new()?;
    // First: pools that are there count no more.
    state.instance = instance;
    note.begin(state)?;
    for id in 0..MAX_POOLS {
        client.destroy_pool(id);
    }
    Ok((instance, None))
}

/// Page memory in a file from outside.
#[expect(unsafe_code, reason = "vouches for a file that nobody else writes to")]
fn page_memory(file: OwnedFd, is_named: bool) -> PageMemory {
    if is_named {
        // SAFETY: the file is in a folder and of a mode by which other users cannot write
        // to it, and this process holds its lock: the daemon before this one is no more.
        // That the same user leaves it alone is a condition of --store.
        unsafe { PageMemory::named(file) }
    } else {
        // SAFETY: only daemons have ever had the file, and this process holds its lock:
        // the one before it is no more.
        unsafe { PageMemory::new(file) }
    }
}
