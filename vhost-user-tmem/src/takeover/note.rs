// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the pages of a machine alone do not say, noted before anybody is answered.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tmem_host::keeper::Outside;
use tmem_host::keeper::record::Record;
use tmem_store::{Client, Identity, PoolConfig, PoolError, PoolKind};
use virtio_tmem::device::MAX_POOLS;

use super::crashes::Crashes;
use super::note_name;
use crate::trace::Trace;

/// Versions of [`State`]; others are not read. Of clones and who was cloned the first one does not know.
const VERSION: u32 = 1;
const VERSION_WITH_BASES: u32 = 2;

/// The words that say how far each queue is begin here: [`IS_KNOWN`] and the used index.
const USED: usize = 0;
/// Queues that there can be.
pub(crate) const QUEUES: usize = 128;
const IS_KNOWN: u64 = 1 << 32;
/// The word that says whether a message of the front end is worked on.
const AT_WORK: usize = USED + QUEUES;
/// The word about crashes.
const CRASHES: usize = AT_WORK + 1;

/// Which file it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(file: &impl AsFd) -> Result<Self> {
        let stat = rustix::fs::fstat(file).context("cannot look at page memory")?;
        Ok(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }
}

/// What is noted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    /// The page memory that it goes with.
    pub(super) pages: FileId,
    pub(super) identity: [u8; 16],
    pub(super) instance: [u8; 16],
    /// By what the store knows its pages, if it is not its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<[u8; 16]>,
    /// By what the store knows the bases that they are over, the next one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bases: Vec<[u8; 16]>,
    /// What its device is.
    #[serde(default = "tmem")]
    pub(super) personality: String,
    /// Pools that the driver has; whether they are ephemeral. What the store has beside
    /// them was being destroyed.
    pools: Vec<(u32, bool)>,
    trace: Trace,
    /// Of its front end, if that outlives the daemon.
    #[serde(default)]
    session: Option<serde_json::Value>,
}

impl State {
    /// Of a machine that has nothing yet, without an instance.
    pub(super) fn new(pages: FileId, identity: Identity, personality: &str) -> Self {
        Self {
            version: VERSION,
            pages,
            identity: identity.bytes(),
            client: None,
            bases: Vec::new(),
            instance: [0; 16],
            personality: personality.to_owned(),
            pools: Vec::new(),
            trace: Trace::default(),
            session: None,
        }
    }

    /// By what the store knows its pages, and the bases that they are over.
    pub(super) fn known(&self) -> (Identity, Vec<Identity>) {
        let client = self.client.unwrap_or(self.identity);
        let bases = self.bases.iter().copied().map(Identity::new);
        (Identity::new(client), bases.collect())
    }

    /// The same, of what the store knows by these.
    pub(super) fn set_known(&mut self, client: Identity, bases: &[Identity]) {
        let client = client.bytes();
        self.client = (client != self.identity).then_some(client);
        self.bases = bases.iter().map(|base| base.bytes()).collect();
        self.version = match (self.client, self.bases.as_slice()) {
            (None, []) => VERSION,
            _ => VERSION_WITH_BASES,
        };
    }

    /// The same, of a client.
    pub(super) fn set_client(&mut self, client: &Client) {
        let bases = client.bases();
        let bases: Vec<_> = bases.iter().map(|base| base.identity()).collect();
        self.set_known(client.identity(), &bases);
    }
}

/// What the device of a machine was before there was a choice.
fn tmem() -> String {
    "tmem".to_owned()
}

/// A machine's note, outside of the process.
#[derive(Debug)]
pub(crate) struct Note {
    name: String,
    outside: Arc<Outside>,
    record: Record,
    state: Mutex<Option<State>>,
    /// File descriptors of the front end that are kept.
    fds: Mutex<BTreeSet<u64>>,
}

impl Note {
    /// The note of the machine with this name, and what is in it.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(super) fn open(outside: Arc<Outside>, name: &str) -> Result<(Self, Option<State>)> {
        let of = || format!("{name}: its note for the next daemon");
        let file = outside.memory(&note_name(name)).with_context(of)?;
        let is_known = |state: &State| (VERSION..=VERSION_WITH_BASES).contains(&state.version);
        let (record, state) = Record::open(file, is_known).with_context(of)?;
        if record.is_lost() {
            log::error!(
                "{name}: the note of the daemon before this one is damaged or of another version: \
                 its pages are lost, and its driver is told so"
            );
        }
        let prefix = fd_name(name, "");
        let left = outside.left(&prefix).into_iter();
        let fds = left.filter_map(|name| name.strip_prefix(&prefix)?.parse().ok());
        let this = Self {
            name: name.to_owned(),
            fds: Mutex::new(fds.collect()),
            outside,
            record,
            state: Mutex::new(None),
        };
        Ok((this, state))
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes this from now on.
    pub(super) fn begin(&self, state: State) -> Result<()> {
        let mut current = self.state();
        self.record
            .write(&state)
            .context("cannot write a note for the next daemon")?;
        *current = Some(state);
        Ok(())
    }

    /// Changes what is noted; whether it is.
    fn change(&self, change: impl FnOnce(&mut State)) -> bool {
        let mut current = self.state();
        let Some(state) = current.as_mut() else {
            return false;
        };
        let before = state.clone();
        change(state);
        match self.record.write(state) {
            Ok(()) => true,
            Err(error) => {
                log::error!("cannot write a note for the next daemon: {error}");
                *state = before;
                false
            }
        }
    }

    /// Notes the pools that there are; whether it could. Nobody changes them meanwhile.
    pub(crate) fn set_pools(&self, client: &Client) -> bool {
        let pools = pools_of(client);
        let known = client.identity();
        let is_noted = |state: &State| state.pools == pools && state.known().0 == known;
        if self.state().as_ref().is_some_and(is_noted) {
            return true;
        }
        self.change(|state| {
            state.pools = pools;
            state.set_client(client);
        })
    }

    /// Notes that the store is about to know its pages by these; whether it could.
    pub(crate) fn set_known(&self, client: Identity, bases: &[Identity]) -> bool {
        self.change(|state| state.set_known(client, bases))
    }

    /// Notes that there are no pools any more, but another set of them; whether it could.
    /// To be called before they are destroyed. What was known of the machine went with them: a
    /// disk's driver that goes on must not pass for one that has its blocks.
    pub(crate) fn renew(&self, instance: [u8; 16]) -> bool {
        self.change(|state| {
            state.instance = instance;
            state.pools.clear();
            state.trace = Trace::default();
        })
    }

    /// Notes that it has the pools of an image, by the name that its driver knows; whether it could.
    pub(crate) fn restored(&self, instance: [u8; 16], client: &Client, trace: &Trace) -> bool {
        for (queue, used) in trace.used() {
            self.set_used(queue, used);
        }
        let pools = pools_of(client);
        self.change(|state| {
            state.instance = instance;
            state.pools = pools;
            state.set_client(client);
            state.trace = trace.clone();
        })
    }

    /// Notes what is known of the machine; whether it could.
    pub(crate) fn set_trace(&self, trace: &Trace) -> bool {
        for (queue, used) in trace.used() {
            self.set_used(queue, used);
        }
        self.change(|state| state.trace = trace.clone())
    }

    /// The machine's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether file descriptors outlive the daemon.
    pub(crate) fn keeps_fds(&self) -> bool {
        self.outside.keeps_fds()
    }

    fn fds(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.fds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a file descriptor of the front end kept.
    pub(crate) fn keep_fd(&self, id: u64, fd: BorrowedFd<'_>) -> io::Result<()> {
        // Perhaps it is kept even if that fails.
        self.fds().insert(id);
        self.outside.keep(&fd_name(&self.name, id), fd)
    }

    /// Takes one that an earlier daemon had kept. It stays kept.
    pub(crate) fn take_fd(&self, id: u64) -> Option<OwnedFd> {
        self.outside.take(&fd_name(&self.name, id))
    }

    /// Has one forgotten.
    pub(crate) fn forget_fd(&self, id: u64) {
        self.forget_fds(&[id]);
    }

    /// Has all forgotten but these.
    pub(crate) fn forget_fds_but(&self, stay: &BTreeSet<u64>) {
        let go: Vec<_> = self.fds().difference(stay).copied().collect();
        self.forget_fds(&go);
    }

    /// Those that cannot be are forgotten with the next, or by the next daemon.
    fn forget_fds(&self, go: &[u64]) {
        for (done, id) in go.iter().enumerate() {
            if let Err(error) = self.outside.forget(&fd_name(&self.name, *id)) {
                let rest = go.len().saturating_sub(done);
                log::warn!(
                    "{}: {rest} file descriptors stay kept for now: {error}",
                    self.name
                );
                return;
            }
            self.fds().remove(id);
        }
    }

    /// What the front end has set up, as an earlier daemon has noted it.
    pub(crate) fn session<T: DeserializeOwned>(&self) -> Option<T> {
        let session = self.state().as_ref()?.session.clone()?;
        serde_json::from_value(session).ok()
    }

    /// Notes what the front end has set up; whether it could.
    pub(crate) fn set_session(&self, session: &impl Serialize) -> bool {
        let session = serde_json::to_value(session);
        session.is_ok_and(|session| self.change(|state| state.session = Some(session)))
    }

    /// Notes that no front end outlives the daemon, and has its file descriptors forgotten.
    pub(crate) fn forget_session(&self) {
        let is_noted = self
            .state()
            .as_ref()
            .is_some_and(|state| state.session.is_none());
        if !is_noted && !self.change(|state| state.session = None) {
            self.set_at_work(true);
        }
        self.forget_fds_but(&BTreeSet::new());
    }

    /// Notes whether a message of the front end is worked on.
    pub(crate) fn set_at_work(&self, is_at_work: bool) {
        self.record.set_word(AT_WORK, is_at_work.into());
    }

    /// Whether the daemon before this one has ended within a message.
    pub(crate) fn is_at_work(&self) -> bool {
        self.record.word(AT_WORK) != 0
    }

    /// Daemons that crashed while they served it.
    pub(crate) fn crashes(&self) -> Crashes {
        Crashes::of(self.record.word(CRASHES))
    }

    /// Notes that this one does: without locks or memory, by one store.
    pub(crate) fn count_crash(&self) {
        self.record
            .set_word(CRASHES, self.crashes().and_one().word());
    }

    /// Notes how far a queue is: one store.
    pub(crate) fn set_used(&self, queue: usize, used: u16) {
        if queue < QUEUES {
            self.record
                .set_word(USED.saturating_add(queue), IS_KNOWN | u64::from(used));
        }
    }

    /// How the machine's memory was left.
    pub(super) fn trace(&self, state: &State) -> Option<Trace> {
        let mut trace = state.trace.clone();
        trace.left_at(|queue| {
            let word = self.record.word(USED.saturating_add(queue));
            let used = u16::try_from(word & 0xffff).unwrap_or(0);
            (queue < QUEUES && word & IS_KNOWN != 0).then_some(used)
        });
        (!trace.is_empty()).then_some(trace)
    }
}

/// Gives a client the pools that are noted, and no others.
pub(super) fn restore_pools(client: &Client, state: &State) -> Result<(), PoolError> {
    for id in 0..MAX_POOLS {
        let noted = state.pools.iter().find(|(noted, _)| *noted == id);
        let kind = noted.map(|(_, is_ephemeral)| kind(*is_ephemeral));
        if client
            .pool(id)
            .is_some_and(|pool| Some(pool.kind()) != kind)
        {
            client.destroy_pool(id);
        }
        if let Some(kind) = kind {
            client.create_pool(id, PoolConfig::new(kind))?;
        }
    }
    Ok(())
}

/// The pools that there are, and whether they are ephemeral.
fn pools_of(client: &Client) -> Vec<(u32, bool)> {
    let pools = client.pools().into_iter();
    pools
        .map(|(id, kind)| (id, kind == PoolKind::Ephemeral))
        .collect()
}

fn fd_name(name: &str, id: impl Display) -> String {
    format!("fd+{name}+{id}")
}

fn kind(is_ephemeral: bool) -> PoolKind {
    if is_ephemeral {
        PoolKind::Ephemeral
    } else {
        PoolKind::Persistent
    }
}
