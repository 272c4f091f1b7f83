// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Stands between a front end and the vhost-user-backend crate.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::vring::event;
use super::message::{Ended, GET_PROTOCOL_FEATURES, Message, wait};
use super::outbox::Outbox;
use super::state::{FdId, Ring, State};
use crate::takeover::Note;

/// A front end, with what it has set up so far.
#[derive(Debug)]
pub(in crate::vhost_user) struct Front {
    socket: UnixStream,
    outbox: Outbox,
    note: Arc<Note>,
    state: State,
    /// Descriptors of a front end that was taken over.
    fds: BTreeMap<FdId, OwnedFd>,
    /// Whether it outlives the daemon.
    is_kept: bool,
}

impl Front {
    /// One that has connected now.
    ///
    /// # Errors
    /// When the system has no pipe.
    pub(in crate::vhost_user) fn connected(socket: UnixStream, note: Arc<Note>) -> Result<Self> {
        let mut this = Self {
            socket,
            outbox: Outbox::new().context("cannot make a pipe")?,
            note,
            state: State::new(),
            fds: BTreeMap::new(),
            is_kept: true,
        };
        this.note.forget_session();
        this.note.set_at_work(false);
        if let Err(error) = this.begin() {
            this.lose(&error);
        }
        Ok(this)
    }

    fn begin(&mut self) -> io::Result<()> {
        let (socket, outbox) = (self.socket.try_clone()?, self.outbox.ends()?);
        let new = self.state.begin(socket.into(), outbox);
        self.keep(new)
    }

    /// The one that an earlier daemon has left, if there is one and it is clear what it has
    /// set up.
    pub(in crate::vhost_user) fn left(note: &Arc<Note>) -> Option<Result<Self>> {
        let state: State = note.session()?;
        let mut fds = BTreeMap::new();
        for id in state.fds() {
            if let Some(fd) = note.take_fd(id) {
                fds.insert(id, fd);
            }
        }
        let socket = fds.remove(&state.socket)?;
        let [read, write] = state.outbox.map(|id| fds.remove(&id));
        let this = Self {
            socket: socket.into(),
            outbox: Outbox::left(read?, write?),
            note: note.clone(),
            fds,
            is_kept: true,
            state,
        };
        // An answer is there once what it answers is noted.
        Some(if this.note.is_at_work() && !this.outbox.is_full() {
            this.end();
            Err(anyhow::anyhow!(
                "the daemon ended while it worked on a message of the front end"
            ))
        } else {
            this.note.forget_fds_but(&this.state.fds().collect());
            Ok(this)
        })
    }

    /// Ends the connection for the front end as well.
    pub(in crate::vhost_user) fn end(&self) {
        // It may be gone.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.note.forget_session();
    }

    /// Has descriptors kept, and then what there is noted.
    fn keep(&self, new: Vec<(FdId, OwnedFd)>) -> io::Result<()> {
        for (id, fd) in new {
            self.note.keep_fd(id, fd.as_fd())?;
        }
        if self.note.set_session(&self.state) {
            Ok(())
        } else {
            Err(io::Error::other("it cannot be noted"))
        }
    }

    /// From now on the front end does not outlive the daemon.
    fn lose(&mut self, error: &io::Error) {
        log::warn!(
            "{}: its connection does not outlive the daemon: {error}",
            self.note.name()
        );
        self.is_kept = false;
        self.note.forget_session();
    }
}

/// A place for a front end until its relay has a thread.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Arc<Mutex<Option<Front>>>);

impl Waiting {
    pub(in crate::vhost_user) fn put(&self, front: Front) {
        *self.lock() = Some(front);
    }

    pub(in crate::vhost_user) fn take(&self) -> Option<Front> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Front>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Relays messages between a front end and the crate.
#[derive(Debug)]
pub(in crate::vhost_user) struct Relay {
    front: Front,
    /// To the crate.
    inner: UnixStream,
    /// Readable when the daemon ends.
    stop: OwnedFd,
}

impl Relay {
    pub(in crate::vhost_user) fn new(front: Front, inner: UnixStream, stop: OwnedFd) -> Self {
        Self { front, inner, stop }
    }

    /// Relays until the front end, the crate or the daemon ends; the front end.
    pub(in crate::vhost_user) fn run(mut self) -> Result<Front> {
        let outcome = self.set_up().and_then(|()| {
            // The answer that the daemon before this one did not send.
            let until = [self.inner.as_fd(), self.stop.as_fd()];
            let sent = self.front.outbox.send(&self.front.socket, &until);
            self.front.note.set_at_work(false);
            sent.context("an answer cannot be sent")
        });
        if outcome.is_ok() {
            while self.relay() {}
        }
        // Ends the crate's side, too.
        let _ = self.inner.shutdown(Shutdown::Both);
        // The next daemon sets up what this one was kept from.
        if let Err(error) = outcome
            && !is_readable(self.stop.as_fd())
        {
            self.front.end();
            return Err(error.context("cannot go on with the front end of the daemon before"));
        }
        Ok(self.front)
    }

    /// Sets up what a front end that was taken over had set up.
    fn set_up(&mut self) -> Result<()> {
        let fds = std::mem::take(&mut self.front.fds);
        self.replay(&fds)?;
        // Buffers may have come, and been used, meanwhile.
        for ring in self.front.state.rings.values() {
            for id in [ring.kick, ring.call].into_iter().flatten().flatten() {
                if let Some(fd) = fds.get(&id) {
                    let file = File::from(fd.try_clone().context("cannot copy an event")?);
                    if let Some(event) = event(file) {
                        // Fails only if it is readable already.
                        let _ = rustix::io::write(&event, &1u64.to_ne_bytes());
                    }
                }
            }
        }
        Ok(())
    }

    fn replay(&self, fds: &BTreeMap<FdId, OwnedFd>) -> Result<()> {
        let state = &self.front.state;
        let stop = [self.stop.as_fd()];
        let base = |ring: &Ring| used_index(state, ring, fds);
        for ring in state.rings.values() {
            ensure!(
                !ring.is_started() || ring.used_ring().is_none() || base(ring).is_some(),
                "a used ring cannot be read"
            );
        }
        let mut script = state.script(base);
        // All is done when this is answered.
        script.push((Message::new(GET_PROTOCOL_FEATURES, Vec::new()), Vec::new()));
        for (message, ids) in script {
            let found: Option<Vec<BorrowedFd<'_>>> =
                ids.iter().map(|id| Some(fds.get(id)?.as_fd())).collect();
            let found = found.context("a file descriptor was not kept")?;
            message
                .send(&self.inner, &found, &stop)
                .context("the device does not take a message")?;
            if message.is_answered(false) && Message::receive(&self.inner, &stop).is_err() {
                bail!("the device refuses what was set up");
            }
        }
        Ok(())
    }

    /// Relays a message of the front end's and its answer; `false` at the end.
    fn relay(&mut self) -> bool {
        let (socket, inner, stop) = (&self.front.socket, &self.inner, self.stop.as_fd());
        if !wait(socket, PollFlags::IN, &[inner.as_fd(), stop]) {
            return false;
        }
        let is_kept = self.front.is_kept;
        if is_kept {
            self.front.note.set_at_work(true);
        }
        let mut message = match Message::receive(socket, &[inner.as_fd(), stop]) {
            Ok(message) => message,
            Err(Ended::Before) => {
                self.front.note.set_at_work(false);
                return false;
            }
            Err(Ended::Within) => return false,
        };
        if message.send(inner, &message.fds(), &[]).is_err() {
            return false;
        }
        let answer = if message.is_answered(self.front.state.acks()) {
            match Message::receive(inner, &[]) {
                Ok(answer) => Some(answer),
                Err(_) => return false,
            }
        } else {
            None
        };
        self.note(&mut message, answer.as_ref());
        if answer.is_none() {
            self.front.note.set_at_work(false);
        }
        answer.is_none_or(|answer| self.answer(&answer).is_ok())
    }

    /// Answers the front end. What it asked for is noted.
    fn answer(&self, answer: &Message) -> io::Result<()> {
        let front = &self.front;
        let until = [self.inner.as_fd(), self.stop.as_fd()];
        if !answer.fds.is_empty() {
            answer.send(&front.socket, &answer.fds(), &until)?;
            front.note.set_at_work(false);
            return Ok(());
        }
        front.outbox.put(&answer.bytes())?;
        front.note.set_at_work(false);
        front.outbox.send(&front.socket, &until)
    }

    /// Notes what a message has set up: which messages are answered follows from that, too.
    fn note(&mut self, message: &mut Message, answer: Option<&Message>) {
        let front = &mut self.front;
        let before = front.state.clone();
        let Some(new) = front.state.apply(message, answer) else {
            front.state = before;
            return;
        };
        if !front.is_kept || front.state == before {
            return;
        }
        if let Err(error) = front.keep(new) {
            front.lose(&error);
            return;
        }
        let now: std::collections::BTreeSet<_> = front.state.fds().collect();
        for id in before.fds().filter(|id| !now.contains(id)) {
            front.note.forget_fd(id);
        }
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// The used index of a ring in guest memory.
fn used_index(state: &State, ring: &Ring, fds: &BTreeMap<FdId, OwnedFd>) -> Option<u16> {
    let at = ring.used_ring()?.checked_add(2)?;
    let region = state.regions.iter().find(|region| {
        at.checked_sub(region.user)
            .is_some_and(|inside| inside < region.bytes)
    })?;
    let offset = region.offset.checked_add(at.checked_sub(region.user)?)?;
    let file = File::from(fds.get(&region.fd)?.try_clone().ok()?);
    let mut index = [0; 2];
    file.read_exact_at(&mut index, offset).ok()?;
    Some(u16::from_le_bytes(index))
}
