// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Stands between a front end and the device, as the vhost crate serves it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::vring::event;
use super::inner::Inner;
use super::message::{Came, Incoming, Message, send};
use super::outbox::Outbox;
use super::state::{FdId, Ring, State};
use crate::takeover::Note;

/// A front end, with what it has set up so far.
#[derive(Debug)]
pub(in crate::vhost_user) struct Front {
    socket: Arc<UnixStream>,
    /// What came of the next message.
    incoming: Incoming,
    /// What is to be sent, from this byte on, if it is not in the outbox.
    answer: Option<(Message, usize)>,
    /// Where what outlives the daemon is noted.
    note: Option<Arc<Note>>,
    /// If it outlives the daemon.
    kept: Option<Kept>,
    /// Descriptors of a front end that was taken over.
    fds: BTreeMap<FdId, OwnedFd>,
}

/// What outlives the daemon.
#[derive(Debug)]
struct Kept {
    outbox: Outbox,
    state: State,
}

impl Front {
    /// One that has connected now; with a note it is to outlive the daemon.
    ///
    /// # Errors
    /// When the system has no pipe.
    pub(in crate::vhost_user) fn connected(
        socket: UnixStream,
        note: Option<Arc<Note>>,
    ) -> Result<Self> {
        let mut this = Self::of(socket, note)?;
        if let Some(note) = &this.note {
            let outbox = Outbox::new().context("cannot make a pipe")?;
            note.forget_session();
            note.set_at_work(false);
            let state = State::new();
            this.kept = Some(Kept { outbox, state });
            if let Err(error) = this.begin() {
                this.lose(&error);
            }
        }
        Ok(this)
    }

    fn of(socket: UnixStream, note: Option<Arc<Note>>) -> Result<Self> {
        // For splice(2).
        let unblocked = socket.set_nonblocking(true);
        unblocked.context("cannot change a socket")?;
        Ok(Self {
            socket: Arc::new(socket),
            incoming: Incoming::default(),
            answer: None,
            note,
            kept: None,
            fds: BTreeMap::new(),
        })
    }

    fn begin(&mut self) -> io::Result<()> {
        let Some(kept) = &mut self.kept else {
            return Ok(());
        };
        let (socket, outbox) = (self.socket.try_clone()?, kept.outbox.ends()?);
        let new = kept.state.begin(socket.into(), outbox);
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
        let outbox = Outbox::left(read?, write?);
        let mut this = match Self::of(socket.into(), Some(note.clone())) {
            Ok(this) => this,
            Err(error) => return Some(Err(error)),
        };
        // An answer is there once what it answers is noted.
        Some(if note.is_at_work() && !outbox.is_full() {
            this.end();
            Err(anyhow!(
                "the daemon ended while it worked on a message of the front end"
            ))
        } else {
            note.forget_fds_but(&state.fds().collect());
            this.fds = fds;
            this.kept = Some(Kept { outbox, state });
            Ok(this)
        })
    }

    /// Its socket.
    pub(in crate::vhost_user) fn socket(&self) -> &Arc<UnixStream> {
        &self.socket
    }

    /// Ends the connection for the front end as well.
    pub(in crate::vhost_user) fn end(&self) {
        // It may be gone.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(note) = &self.note {
            note.forget_session();
        }
    }

    /// Has descriptors kept, and then what there is noted.
    fn keep(&self, new: Vec<(FdId, OwnedFd)>) -> io::Result<()> {
        let (Some(note), Some(kept)) = (&self.note, &self.kept) else {
            return Ok(());
        };
        for (id, fd) in new {
            note.keep_fd(id, fd.as_fd())?;
        }
        if note.set_session(&kept.state) {
            Ok(())
        } else {
            Err(io::Error::other("it cannot be noted"))
        }
    }

    /// From now on the front end does not outlive the daemon.
    fn lose(&mut self, error: &io::Error) {
        self.kept = None;
        if let Some(note) = &self.note {
            log::warn!(
                "{}: its connection does not outlive the daemon: {error}",
                note.name()
            );
            note.forget_session();
        }
    }

    /// Notes whether a message is worked on.
    fn set_at_work(&self, is_at_work: bool) {
        if let (Some(note), Some(_)) = (&self.note, &self.kept) {
            note.set_at_work(is_at_work);
        }
    }

    /// Notes what a message has set up.
    fn note(&mut self, message: &mut Message, answer: Option<&Message>) {
        let Some(kept) = &mut self.kept else {
            return;
        };
        let before = kept.state.clone();
        let Some(new) = kept.state.apply(message, answer) else {
            kept.state = before;
            return;
        };
        if kept.state == before {
            return;
        }
        let now: BTreeSet<_> = kept.state.fds().collect();
        if let Err(error) = self.keep(new) {
            self.lose(&error);
            return;
        }
        if let Some(note) = &self.note {
            for id in before.fds().filter(|id| !now.contains(id)) {
                note.forget_fd(id);
            }
        }
    }

    /// Has an answer on its way. What it answers is noted.
    fn answer(&mut self, answer: Message) -> io::Result<()> {
        match &self.kept {
            Some(kept) if answer.fds.is_empty() => {
                kept.outbox.put(&answer.bytes())?;
                self.set_at_work(false);
            }
            _ => self.answer = Some((answer, 0)),
        }
        Ok(())
    }

    /// Sends what is on its way, if that is taken at once; whether nothing is left.
    fn flush(&mut self) -> io::Result<bool> {
        if let Some(kept) = &self.kept
            && !kept.outbox.send(&self.socket)?
        {
            return Ok(false);
        }
        while let Some((answer, sent)) = &mut self.answer {
            let bytes = answer.bytes();
            let rest = bytes.get(*sent..).unwrap_or_default();
            if rest.is_empty() {
                self.answer = None;
                self.set_at_work(false);
                break;
            }
            // Descriptors go with the first byte.
            let fds = if *sent == 0 { answer.fds() } else { Vec::new() };
            match send(&self.socket, rest, &fds) {
                Ok(more) => *sent = sent.saturating_add(more),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// A place for a front end that cannot be served yet.
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

/// Relays messages between a front end and its device.
#[derive(Debug)]
pub(in crate::vhost_user) struct Relay {
    front: Front,
    inner: Inner,
}

/// How far a relay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vhost_user) enum Step {
    /// There may be more to do.
    Done,
    /// It waits for this.
    Waits(PollFlags),
    /// The front end has left.
    Left,
}

impl Relay {
    pub(in crate::vhost_user) fn new(front: Front, inner: Inner) -> Self {
        Self { front, inner }
    }

    pub(in crate::vhost_user) fn front(&self) -> &Front {
        &self.front
    }

    /// Sets up what a front end that was taken over had set up.
    ///
    /// # Errors
    /// When that cannot be.
    pub(in crate::vhost_user) fn set_up(&mut self) -> Result<()> {
        let fds = std::mem::take(&mut self.front.fds);
        let Some(kept) = &self.front.kept else {
            return Ok(());
        };
        replay(&mut self.inner, &kept.state, &fds)?;
        // Buffers may have come, and been used, meanwhile.
        for ring in kept.state.rings.values() {
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
        // An answer that the daemon before did not send is in the outbox.
        self.front.set_at_work(false);
        Ok(())
    }

    /// Sends what is on its way, as far as that is taken at once: the connection is to be ended.
    pub(in crate::vhost_user) fn send_rest(&mut self) {
        // It may be gone.
        let _ = self.front.flush();
    }

    /// Does as much as can be done without waiting, at most one message.
    ///
    /// # Errors
    /// When the front end did something wrong.
    pub(in crate::vhost_user) fn step(&mut self) -> Result<Step> {
        match self.front.flush() {
            Ok(true) => {}
            Ok(false) => return Ok(Step::Waits(PollFlags::OUT)),
            Err(_) => return Ok(Step::Left),
        }
        let front = &mut self.front;
        if front.incoming.is_empty() {
            // A daemon that ends while nothing has come is not at work.
            if !is_readable(&front.socket) {
                return Ok(Step::Waits(PollFlags::IN));
            }
            front.set_at_work(true);
        }
        let came = front.incoming.receive(&front.socket);
        match came {
            Came::Whole(message) => self.relay(message),
            Came::Nonsense => bail!("a message is longer than any"),
            Came::Part | Came::End => {
                if front.incoming.is_empty() {
                    front.set_at_work(false);
                }
                Ok(match came {
                    Came::Part => Step::Waits(PollFlags::IN),
                    _ => Step::Left,
                })
            }
        }
    }

    /// Relays a message, and has its answer on its way.
    fn relay(&mut self, mut message: Message) -> Result<Step> {
        let front = &mut self.front;
        let (answer, done) = self.inner.ask(&message, &message.fds());
        if let Err(error) = done {
            // It may be told that it was refused, and that is all.
            if let Some(answer) = answer {
                let _ = send(&front.socket, &answer.bytes(), &[]);
            }
            return Err(error);
        }
        front.note(&mut message, answer.as_ref());
        match answer {
            Some(answer) => Ok(match front.answer(answer) {
                Ok(()) => Step::Done,
                Err(_) => Step::Left,
            }),
            None => {
                front.set_at_work(false);
                Ok(Step::Done)
            }
        }
    }
}

/// Whether a message, a part of one or the end is there.
fn is_readable(socket: &UnixStream) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    let ready = poll(&mut fds, Some(&Timespec::default()));
    ready.map_or(true, |ready| ready > 0)
}

/// Says to the device what a front end would that has set up this.
fn replay(inner: &mut Inner, state: &State, fds: &BTreeMap<FdId, OwnedFd>) -> Result<()> {
    let base = |ring: &Ring| used_index(state, ring, fds);
    for ring in state.rings.values() {
        ensure!(
            !ring.is_started() || ring.used_ring().is_none() || base(ring).is_some(),
            "a used ring cannot be read"
        );
    }
    for (message, ids) in state.script(base) {
        let found: Option<Vec<BorrowedFd<'_>>> =
            ids.iter().map(|id| Some(fds.get(id)?.as_fd())).collect();
        let found = found.context("a file descriptor was not kept")?;
        let (_, done) = inner.ask(&message, &found);
        done.context("the device refuses what was set up")?;
    }
    Ok(())
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
