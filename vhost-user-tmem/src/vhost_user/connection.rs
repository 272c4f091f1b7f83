// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One front end's connection, from its acceptance to its end.
//!
//! It has no thread of its own: whoever watches it calls [`Connection::serve`] when there is
//! something to do. Whatever it set up (memory, queues) ends with it: the next one begins afresh,
//! on the same device.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vm_memory::GuestMemoryMmap;

use super::backend::Backend;
use super::others::Others;
use super::queues::Queues;
use super::requests::Requests;
use super::session::{Front, Inner, Relay, Step, Waiting};
use crate::faults;
use crate::stop::Stop;
use crate::vm::{Memory, Vm};

/// How long to wait for the next message before the connection is given back to who watches it.
const IDLE: Duration = Duration::from_secs(1);

/// How long to wait after the system refused something.
const BACK_OFF: Duration = Duration::from_millis(10);

/// A front end that is served.
#[derive(Debug)]
pub struct Connection {
    vm: Arc<Vm>,
    device: Serving,
    relay: Relay,
    others: Others,
    /// What the relay waits for.
    waits: PollFlags,
}

/// What is to be done with a connection.
#[derive(Debug)]
pub enum Then {
    /// To be watched: there is nothing to do.
    Watch,
    /// To be ended, because of this.
    End(Result<()>),
}

/// What a connection that is idle waits for.
#[derive(Clone, Debug)]
pub struct Watched {
    socket: Arc<UnixStream>,
    waits: PollFlags,
    over: Arc<OwnedFd>,
}

impl Watched {
    /// Something is to be done when one of these is ready.
    pub fn poll_fds(&self) -> [PollFd<'_>; 2] {
        [
            PollFd::new(&*self.socket, self.waits),
            PollFd::new(&*self.over, PollFlags::IN),
        ]
    }
}

/// A device whose queues are served.
struct Serving {
    backend: Arc<Backend>,
    queues: Option<Queues>,
    mem: Memory,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.backend.end();
        // Waits for their threads.
        self.queues = None;
    }
}

/// What it takes to serve a front end.
fn prepare(vm: &Arc<Vm>) -> Result<(Serving, Inner)> {
    faults::fails("connection")?;
    let mem = Memory::new(GuestMemoryMmap::new());
    let backend = Arc::new(Backend::new(vm, mem.clone())?);
    let requests = Requests::new(backend.clone()).map_err(|error| anyhow!("{error}"))?;
    let queues = Queues::serve(&backend, requests.vrings())?;
    let device = Serving {
        backend,
        queues: Some(queues),
        mem,
    };
    Ok((device, Inner::new(requests)?))
}

impl Connection {
    /// Accepts the front end that waits at `entry`, if there still is one.
    ///
    /// # Errors
    /// When it cannot be served, for example because the daemon is out of file descriptors:
    /// not to be tried again at once.
    pub fn accept(vm: &Arc<Vm>, entry: &UnixListener) -> Result<Option<Self>> {
        let prepared = prepare(vm)?;
        let socket = match entry.accept() {
            Ok((socket, _)) => socket,
            Err(error)
                if [
                    ErrorKind::WouldBlock,
                    ErrorKind::ConnectionAborted,
                    ErrorKind::Interrupted,
                ]
                .contains(&error.kind()) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error).context("cannot accept it"),
        };
        let note = vm.note().filter(|note| note.keeps_fds());
        let front = Front::connected(socket, note)?;
        let this = Self::begin(vm, prepared, front);
        vm.say(|| log::info!("{}: a front end connected", vm.name()));
        Ok(Some(this))
    }

    /// Goes on with the front end that the daemon before this one has left, if there is one.
    ///
    /// # Errors
    /// As [`Self::accept`]; the front end is `waiting` then.
    pub fn go_on(vm: &Arc<Vm>, waiting: &Waiting, stop: &Stop) -> Result<Option<Self>> {
        let Some(note) = vm.note().filter(|note| note.keeps_fds()) else {
            return Ok(None);
        };
        let left = waiting.take().map(Ok).or_else(|| Front::left(&note));
        let front = match left {
            Some(Ok(front)) => front,
            Some(Err(error)) => {
                say(vm, Err(error), stop);
                return Ok(None);
            }
            None => {
                note.forget_session();
                return Ok(None);
            }
        };
        vm.say(|| log::info!("{}: took over its front end", vm.name()));
        let prepared = match prepare(vm) {
            Ok(prepared) => prepared,
            Err(error) => {
                waiting.put(front);
                return Err(error);
            }
        };
        let mut this = Self::begin(vm, prepared, front);
        if let Err(error) = this.relay.set_up() {
            let why = "cannot go on with the front end of the daemon before";
            this.end(stop, Err(error.context(why)));
            return Ok(None);
        }
        Ok(Some(this))
    }

    fn begin(vm: &Arc<Vm>, (device, inner): (Serving, Inner), front: Front) -> Self {
        vm.connected();
        vm.set_memory(Some(device.mem.clone()));
        device.backend.connected();
        Self {
            vm: vm.clone(),
            device,
            relay: Relay::new(front, inner),
            others: Others::default(),
            waits: PollFlags::IN,
        }
    }

    /// What it waits for while it is not served.
    pub fn watched(&self) -> Watched {
        Watched {
            socket: self.relay.front().socket().clone(),
            waits: self.waits,
            over: self.device.backend.over().clone(),
        }
    }

    /// Does what there is to do, until there was nothing for a while. Who connects to `entry`
    /// meanwhile is turned away.
    pub fn serve(&mut self, entry: &UnixListener, stop: &Stop) -> Then {
        faults::at("relay", self.vm.name());
        let mut last = Instant::now();
        loop {
            if self.device.backend.is_over() {
                self.relay.send_rest();
                return Then::End(Ok(()));
            }
            if stop.is_asked() {
                return Then::End(Ok(()));
            }
            self.waits = match self.relay.step() {
                Ok(Step::Done) => {
                    last = Instant::now();
                    continue;
                }
                Ok(Step::Waits(waits)) => waits,
                Ok(Step::Left) => return Then::End(Ok(())),
                Err(error) => return Then::End(Err(error)),
            };
            let due = self.others.turn_away_if_due(entry, &self.vm);
            let idle = last.checked_add(IDLE);
            let until = due.into_iter().chain(idle).min();
            let pause = until.map(|then| then.saturating_duration_since(Instant::now()));
            let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
            let watched = self.watched();
            let [socket, over] = watched.poll_fds();
            let mut fds = [
                PollFd::new(entry, PollFlags::IN),
                socket,
                over,
                PollFd::new(stop, PollFlags::IN),
            ];
            // The first is left out while somebody waits to be turned away.
            let fds = match due {
                None => fds.as_mut_slice(),
                Some(_) => fds.get_mut(1..).unwrap_or_default(),
            };
            match poll(fds, pause.as_ref()) {
                Ok(0) if due.is_none() && last.elapsed() >= IDLE => return Then::Watch,
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => last = Instant::now(),
                Err(_) => std::thread::sleep(BACK_OFF),
            }
            let waits_at_entry = fds.first().is_some_and(|fd| !fd.revents().is_empty());
            if due.is_none() && waits_at_entry {
                self.others.has_come();
            }
        }
    }

    /// Ends it, because of `how`; for the front end, too, unless the next daemon may go on.
    pub fn end(self, stop: &Stop, how: Result<()>) {
        let Self {
            vm, device, relay, ..
        } = self;
        let backend = device.backend.clone();
        drop(device);
        vm.set_trace(backend.trace());
        vm.set_memory(None);
        if how.is_err() || !stop.is_asked() || stop.is_for_good() {
            relay.front().end();
        }
        drop(relay);
        vm.disconnected();
        // The next front end maps its memory anew.
        let lost = vm.device().memory_lost();
        let how = if lost.is_lost() {
            lost.reset();
            Err(anyhow!(
                "the VM's memory is gone: its file was truncated, or the file system under it is full"
            ))
        } else if let Some(trouble) = backend.trouble() {
            Err(anyhow!("{trouble}"))
        } else {
            how
        };
        say(&vm, how, stop);
    }
}

/// Has the log tell how a connection ended.
fn say(vm: &Vm, ended: Result<()>, stop: &Stop) {
    let name = vm.name();
    match ended {
        // It goes on with the next daemon, perhaps.
        Ok(()) if stop.is_asked() => {}
        Ok(()) => vm.say(|| log::info!("{name}: the front end left")),
        Err(error) => vm.say(|| log::warn!("{name}: the connection ended: {error:#}")),
    }
}
