// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A virtual machine, its entry, and what is just being done for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Builder;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::Value;
use tmem_host::personality::VmDevice;
use tmem_host::registry::{self, Fill, Machine, NoBase, Refusal, Still};
use tmem_store::{Base, CloneError};

use super::{BACK_OFF, Shared};
use crate::blame;
use crate::confine::{self, Role};
use crate::entry::Entry;
use crate::faults;
use crate::stop::Stop;
use crate::vhost_user::{Connection, Then, Waiting, Watched};
use crate::vm::Vm;

/// A machine whose front ends are served.
#[derive(Debug)]
pub struct Served {
    vm: Arc<Vm>,
    entry: Entry,
    stop: Stop,
    doors: Weak<Shared>,
    /// Whether the daemon before this one may have left a front end, which nobody has gone on
    /// with yet.
    goes_on: AtomicBool,
    /// That front end, if it could not be served so far.
    waiting: Waiting,
    /// The front end that is connected, while there is nothing to do for it.
    connection: Mutex<Option<Connection>>,
    phase: Mutex<Phase>,
    changed: Condvar,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing, from then on.
    IdleFrom(Instant),
    /// A thread is at work.
    Busy,
    /// Nothing any more.
    Over,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// A front end may be left by the daemon before this one.
    GoOn,
    /// Somebody is at the entry.
    FrontEnd,
    /// There is something to do for the front end that is connected, or somebody is at the entry.
    Messages,
    /// The grace period is over.
    Expire,
}

impl Served {
    pub(super) fn new(vm: Arc<Vm>, entry: Entry, doors: Weak<Shared>) -> io::Result<Self> {
        let rest = vm.rest();
        // Whoever is there when it is looked may be gone when it is to be accepted.
        let flags = fcntl_getfl(&entry)?;
        fcntl_setfl(&entry, flags | OFlags::NONBLOCK)?;
        Ok(Self {
            goes_on: AtomicBool::new(vm.may_have_front_end()),
            waiting: Waiting::default(),
            connection: Mutex::default(),
            vm,
            entry,
            stop: Stop::new()?,
            doors,
            phase: Mutex::new(Phase::IdleFrom(Instant::now() + rest)),
            changed: Condvar::new(),
        })
    }

    /// The machine.
    pub fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }

    /// When something may be done next; `None` while something is.
    pub(super) fn idle_from(&self) -> Option<Instant> {
        match *self.lock() {
            Phase::IdleFrom(then) => Some(then),
            Phase::Busy | Phase::Over => None,
        }
    }

    /// Whether a front end that the daemon before this one has left comes first.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on.load(SeqCst)
    }

    /// Whether nothing will ever be done any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(*self.lock(), Phase::Over)
    }

    /// What the front end that is connected waits for.
    pub(super) fn watched(&self) -> Option<Watched> {
        self.kept().as_ref().map(Connection::watched)
    }

    /// Whether a connection waits to be ended.
    pub(super) fn is_to_end(&self) -> bool {
        self.stop.is_asked() && self.kept().is_some()
    }

    fn kept(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins with `task` in a thread of its own.
    pub(super) fn begin(self: &Arc<Self>, task: Task) {
        {
            let mut phase = self.lock();
            if !matches!(*phase, Phase::IdleFrom(_)) {
                return;
            }
            *phase = Phase::Busy;
        }
        let done = Done {
            served: self.clone(),
            rest: BACK_OFF,
        };
        let thread = Builder::new().name(self.vm.name().to_owned());
        let run = move || {
            blame::take(done.served.vm.note().as_ref());
            confine::enter(Role::Connection);
            done.after(task);
        };
        let spawn = || thread.spawn(run);
        let began = faults::fails("thread").and_then(|()| spawn());
        if let Err(error) = began {
            log::warn!("{}: cannot start a thread: {error}", self.vm.name());
        }
    }

    /// Does it, and says how long to wait before the next time.
    fn work(&self, task: Task) -> Duration {
        let connection = match task {
            Task::Expire => {
                self.vm.expire();
                return Duration::ZERO;
            }
            Task::GoOn => self.go_on(),
            Task::FrontEnd => Connection::accept(&self.vm, self.entry.socket()),
            Task::Messages => Ok(self.kept().take()),
        };
        match connection {
            Ok(Some(connection)) => self.serve(connection),
            Ok(None) => {}
            Err(error) => {
                let name = self.vm.name();
                let line = || log::warn!("{name}: a front end cannot be served: {error:#}");
                // Its socket is closed when a machine is removed.
                if !self.stop.is_asked() {
                    self.vm.say(line);
                }
                return BACK_OFF;
            }
        }
        Duration::ZERO
    }

    /// Is tried again when the system was out of something.
    fn go_on(&self) -> Result<Option<Connection>> {
        let connection = Connection::go_on(&self.vm, &self.waiting, &self.stop)?;
        self.goes_on.store(false, SeqCst);
        Ok(connection)
    }

    /// Serves a front end until there is nothing to do for it.
    fn serve(&self, mut connection: Connection) {
        match connection.serve(self.entry.socket(), &self.stop) {
            Then::Watch => *self.kept() = Some(connection),
            Then::End(how) => connection.end(&self.stop, how),
        }
    }

    /// Ends what is being done, and the connection: soon, on a thread of its own.
    pub(super) fn stop(&self) {
        self.stop.ask();
        let mut phase = self.lock();
        if *phase != Phase::Busy && self.kept().is_none() {
            *phase = Phase::Over;
        }
        drop(phase);
        if let Some(doors) = self.doors.upgrade() {
            doors.wake();
        }
    }

    /// Waits until nothing is being done any more, after [`Served::stop`].
    pub(super) fn wait(&self) {
        let mut phase = self.lock();
        while *phase != Phase::Over {
            let woken = self.changed.wait(phase);
            phase = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Removes its socket: whoever has this last need not be able to.
    pub(super) fn close(&self) {
        self.entry.end();
    }

    /// Keeps everything else from being done.
    ///
    /// # Errors
    /// A sentence, when something is, or a front end is connected.
    fn claim(&self) -> Result<Claim<'_>, String> {
        /// A machine that was just added is looked at for a front end that an earlier daemon has left.
        const A_MOMENT: Duration = Duration::from_secs(1);
        let is_looked_at = |phase: &mut Phase| {
            let is_at_work = matches!(phase, Phase::Busy) || self.goes_on();
            is_at_work && !self.vm.is_connected() && !self.stop.is_asked()
        };
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), A_MOMENT, is_looked_at);
        let (mut phase, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if self.kept().is_some() || self.goes_on() || self.vm.is_connected() {
            return Err("a front end is connected; end its VMM first".into());
        }
        if !matches!(*phase, Phase::IdleFrom(_)) || self.stop.is_asked() {
            return Err("something else is being done for it; try again".into());
        }
        *phase = Phase::Busy;
        Ok(Claim(self))
    }

    /// Nothing is being done any more, nor is for some time.
    fn released(&self, rest: Duration) {
        let mut phase = self.lock();
        *phase = if self.stop.is_asked() && self.kept().is_none() {
            Phase::Over
        } else {
            Phase::IdleFrom(Instant::now() + rest)
        };
        drop(phase);
        self.changed.notify_all();
        if let Some(doors) = self.doors.upgrade() {
            doors.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Served {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.entry.as_fd()
    }
}

/// Says when a task is done, or was never begun.
struct Done {
    served: Arc<Served>,
    rest: Duration,
}

impl Done {
    fn after(mut self, task: Task) {
        self.rest = self.served.work(task);
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        self.served.released(self.rest);
    }
}

/// Keeps everything else from being done for a machine, until it is dropped.
struct Claim<'a>(&'a Served);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.released(Duration::ZERO);
    }
}

impl Machine for Served {
    fn device(&self) -> &dyn VmDevice {
        &**self.vm.device()
    }

    fn connection(&self) -> registry::Connection {
        registry::Connection {
            connected: self.vm.is_connected(),
            connections: self.vm.connections(),
            expiries: self.vm.expiries(),
        }
    }

    fn set_grace(&self, grace: Duration) {
        self.vm.set_grace(grace);
        if let Some(doors) = self.doors.upgrade() {
            doors.wake();
        }
    }

    fn look_after(&self) {
        self.vm.look_after();
    }

    fn stands_still(&self) -> Result<Still, String> {
        self.vm.stands_still()
    }

    fn to_base(
        &self,
        is_as_it_was: &dyn Fn() -> bool,
        share: &dyn Fn(&Arc<Base>) -> Result<(), CloneError>,
    ) -> Result<(), NoBase> {
        self.vm.to_base(is_as_it_was, share)
    }

    fn restore(
        &self,
        instance: [u8; 16],
        driver: &Value,
        fill: &mut Fill<'_>,
    ) -> Result<(), Refusal> {
        let name = self.vm.name();
        let claim = self.claim();
        let _claim = claim.map_err(|why| Refusal::Conflict(format!("{name}: {why}")))?;
        let goes_on = || !self.stop.is_asked();
        self.vm.restore(instance, driver, &goes_on, fill)
    }

    fn end(&self) {
        // First: nobody is to wonder about a socket that is closed.
        self.stop.ask_for_good();
        self.entry.end();
        self.stop();
        self.wait();
        if let Some(doors) = self.doors.upgrade() {
            doors.forget(self);
        }
        self.vm.forget();
    }
}
