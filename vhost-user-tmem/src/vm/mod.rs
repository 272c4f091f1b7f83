// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Virtual machines, as the daemon sees them: a device and a front end that
//! comes and goes.

mod lines;
mod resting;
mod saved;

pub(crate) use resting::Resting;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tmem_host::device::{self, Has, Ids};
use tmem_host::image::Workers;
use tmem_host::personality::VmDevice;
use tmem_host::registry::Settings;
use tmem_store::{Client, ClientConfig};
use virtio_tmem::device::{PoolLog, Shares};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};

use crate::room::Room;
use crate::takeover::{Note, Takeover, identity_of};
use crate::trace::Trace;
use lines::Lines;

/// A machine's memory, which may change while it is used.
pub(crate) type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// One virtual machine. Its pools outlive its front end for a grace period.
#[derive(Debug)]
pub struct Vm {
    name: String,
    device: Arc<dyn VmDevice>,
    /// Where it is kept for the next daemon.
    takeover: Arc<Takeover>,
    grace: Mutex<Duration>,
    front_end: Mutex<FrontEnd>,
    /// That of the machine, while its front end is connected.
    memory: Mutex<Option<Memory>>,
    /// How its memory was when the last front end left, if pools are kept.
    trace: Mutex<Option<Trace>>,
    /// Whether it stands still though its front end is connected.
    resting: Arc<Resting>,
    /// For the next daemon.
    note: Option<Arc<Note>>,
    /// That of the daemon's control group, if it is to be kept.
    room: Option<Arc<Room>>,
    /// Longest that a ring is looked at before a thread sleeps.
    poll: Duration,
    /// Threads that save and restore it for its front end.
    workers: Option<Arc<Workers>>,
    connections: AtomicU64,
    expiries: AtomicU64,
    lines: Mutex<Lines>,
}

/// Whether a front end is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrontEnd {
    /// None came since the instance began.
    Awaited,
    /// One is connected.
    Connected,
    /// It left.
    GoneSince(Instant),
}

impl Vm {
    /// Makes the device of one virtual machine: with the pools that it had, or a new
    /// instance id. `shares` are those that it may have.
    ///
    /// # Errors
    /// When the store has no room or the system no random numbers.
    pub fn new(
        takeover: Arc<Takeover>,
        name: &str,
        settings: &Settings,
        request_queues: u32,
        shares: Option<Arc<dyn Shares>>,
    ) -> Result<Self> {
        let personality = settings.personality();
        let config = ClientConfig::new(name, settings.quota.bytes(None))
            .with_max_pools(settings.max_pools)
            .with_weight(settings.weight);
        let identity = settings.identity.unwrap_or_else(|| identity_of(name));
        let taken = takeover
            .machine(name, identity, personality, config)
            .with_context(|| format!("cannot serve '{name}'"))?;
        taken.client.set_compression(settings.codec);
        let log = taken.note.clone().map(|note| {
            let log = move |client: &Client| note.set_pools(client);
            PoolLog(Box::new(log))
        });
        let device = device::make(
            name,
            settings,
            taken.client,
            Ids {
                identity: identity.into_bytes(),
                instance: taken.instance,
            },
            request_queues,
            Has { log, shares },
        )
        .with_context(|| format!("cannot serve '{name}'"))?;
        takeover.hold(name, device.clone());
        if taken.trace.as_ref().is_some_and(Trace::misses_pages) {
            device.set_misses_pages(true);
        }
        let front_end = match &taken.trace {
            Some(_) => FrontEnd::GoneSince(Instant::now()),
            None => FrontEnd::Awaited,
        };
        Ok(Self {
            name: name.to_owned(),
            device,
            takeover,
            memory: Mutex::new(None),
            trace: Mutex::new(taken.trace),
            resting: Arc::default(),
            note: taken.note,
            room: None,
            poll: Duration::ZERO,
            workers: None,
            grace: Mutex::new(settings.grace),
            front_end: Mutex::new(front_end),
            connections: AtomicU64::new(0),
            expiries: AtomicU64::new(0),
            lines: Mutex::default(),
        })
    }

    /// The same machine, whose requests count for the daemon's control group.
    pub fn within(self, room: Arc<Room>) -> Self {
        Self {
            room: Some(room),
            ..self
        }
    }

    /// The same machine, whose rings are looked at for `most` at most before a thread sleeps.
    pub fn polled(self, most: Duration) -> Self {
        Self { poll: most, ..self }
    }

    /// The same machine, which its front end may have saved and restored by these threads.
    pub fn saved_by(self, workers: Arc<Workers>) -> Self {
        Self {
            workers: Some(workers),
            ..self
        }
    }

    pub(crate) fn workers(&self) -> Option<&Workers> {
        self.workers.as_deref()
    }

    pub(crate) fn poll(&self) -> Duration {
        self.poll
    }

    pub(crate) fn room(&self) -> Option<Arc<Room>> {
        self.room.clone()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its device.
    pub fn device(&self) -> &Arc<dyn VmDevice> {
        &self.device
    }

    /// Whether a front end is connected.
    pub fn is_connected(&self) -> bool {
        *self.lock() == FrontEnd::Connected
    }

    /// Front ends that connected so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// How often the grace period ended without a front end.
    pub fn expiries(&self) -> u64 {
        self.expiries.load(Relaxed)
    }

    fn grace(&self) -> Duration {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how long its pages are kept without a front end.
    pub fn set_grace(&self, grace: Duration) {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner) = grace;
    }

    fn lock(&self) -> MutexGuard<'_, FrontEnd> {
        self.front_end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done every so often.
    pub fn look_after(&self) {
        // Not held while files are looked at.
        let memory = self.memory().clone();
        let memory = memory.map(|memory| memory.memory());
        self.device.look_after(memory.as_deref());
    }

    /// The machine's memory is this, until it is none.
    pub(crate) fn set_memory(&self, memory: Option<Memory>) {
        *self.memory() = memory;
    }

    fn memory(&self) -> MutexGuard<'_, Option<Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the daemon before this one may have left a front end.
    pub(crate) fn may_have_front_end(&self) -> bool {
        self.note.as_ref().is_some_and(|note| note.keeps_fds())
    }

    /// How long it is not served yet, because daemons have crashed over it.
    pub(crate) fn rest(&self) -> Duration {
        let Some(note) = &self.note else {
            return Duration::ZERO;
        };
        let crashes = note.crashes();
        let rest = crashes.rest();
        if !rest.is_zero() {
            log::error!(
                "{}: the daemon has crashed {} times while it served this machine: for the sake of \
                 others it is served again in {} s, and its pages are kept until then",
                self.name,
                crashes.count,
                rest.as_secs().saturating_add(1)
            );
        }
        rest
    }

    /// Where what changes is noted for the next daemon.
    pub(crate) fn note(&self) -> Option<Arc<Note>> {
        self.note.clone()
    }

    /// How its memory was left, by the last front end.
    pub(crate) fn set_trace(&self, trace: Option<Trace>) {
        if let Some(note) = &self.note {
            note.set_trace(&trace.clone().unwrap_or_default());
        }
        *self.trace.lock().unwrap_or_else(PoisonError::into_inner) = trace;
    }

    pub(crate) fn trace(&self) -> Option<Trace> {
        let trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        trace.clone()
    }

    /// Has `line` written to the log, unless its front ends caused too many lines lately.
    pub(crate) fn say(&self, line: impl FnOnce()) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let may = lines.may(Instant::now());
        let left_out = lines.left_out();
        drop(lines);
        if let Some(left_out) = left_out {
            log::warn!(
                "{}: {left_out} lines about its front ends were left out",
                self.name
            );
        }
        if may {
            line();
        }
    }

    /// Whether it stands still, for who knows.
    pub(crate) fn resting(&self) -> &Arc<Resting> {
        &self.resting
    }

    /// A front end is connected.
    pub(crate) fn connected(&self) {
        self.resting.rests(self.trace().unwrap_or_default());
        *self.lock() = FrontEnd::Connected;
        self.connections.fetch_add(1, Relaxed);
    }

    /// It is no more: the grace period begins.
    pub(crate) fn disconnected(&self) {
        *self.lock() = FrontEnd::GoneSince(Instant::now());
    }

    /// How long the pools are still kept; `None`: without limit.
    pub(crate) fn keeps_for(&self) -> Option<Duration> {
        match *self.lock() {
            FrontEnd::GoneSince(then) => Some(self.grace().saturating_sub(then.elapsed())),
            FrontEnd::Awaited | FrontEnd::Connected => None,
        }
    }

    /// Frees the pools of a front end that did not come back.
    pub(crate) fn expire(&self) {
        let _held = self.resting.hold();
        *self.lock() = FrontEnd::Awaited;
        if let Some(pages) = self.free() {
            self.expiries.fetch_add(1, Relaxed);
            log::info!(
                "{}: no front end for {} s, freed {pages} pages",
                self.name,
                self.grace().as_secs()
            );
        }
    }

    /// Forgets it for good: its pools, its front end and what is kept for the next daemon.
    pub(crate) fn forget(&self) {
        let _held = self.resting.hold();
        self.free();
        if let Some(note) = &self.note {
            note.forget_session();
        }
        self.takeover.forget(&self.name);
        // Somebody may refer to this for a while, and the next of its name come at once.
        self.device.client().leave();
    }

    /// Destroys its pools, and gives the number of their pages.
    fn free(&self) -> Option<u64> {
        match renew(&*self.device, self.note.as_deref()) {
            Ok(pages) => {
                self.set_trace(None);
                Some(pages)
            }
            // Keeping them is the safe side: the id stays as well.
            Err(error) => {
                log::error!("{}: cannot free its pages: {error:#}", self.name);
                None
            }
        }
    }
}

/// Destroys all pools of a device and gives it a new instance id, before any driver can
/// reach it; the pages removed.
///
/// # Errors
/// When nothing was changed.
pub(crate) fn renew(device: &dyn VmDevice, note: Option<&Note>) -> Result<u64> {
    let instance = crate::instance::new()?;
    if note.is_some_and(|note| !note.renew(instance)) {
        bail!("cannot note its new instance id");
    }
    let pages = device.renew(instance);
    if note.is_some_and(|note| !note.set_pools(device.client())) {
        bail!("cannot note the pools that it has now");
    }
    Ok(pages)
}
