// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A vhost-user front end that outlives its back end, between QEMU and a daemon.
//!
//! Makes of QEMU's device, which does not survive its daemon, one that behaves as Cloud Hypervisor's:
//! what is in a ring when the driver sets DRIVER_OK counts as seen by the back end, because the ring
//! begins at its available index; when the back end is gone, it connects to the next one, says again
//! what it had said, and has requests done again from the used index on. The driver is told nothing.
//! And it counts what would end that machine: reads of configuration space without a back end.

mod message;
mod session;

use crate::wait::until;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use message::GET_CONFIG;
use message::GET_FEATURES;
use message::GET_PROTOCOL_FEATURES;
use message::GET_VRING_BASE;
use message::Message;
use message::SET_VRING_ADDR;
use message::SET_VRING_BASE;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use session::Session;
use session::base;
use session::enable;
use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// Between two looks at what is not QEMU.
const PAUSE: Duration = Duration::from_millis(50);

/// For a back end to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// What it does not get in the way of: MQ, REPLY_ACK, CONFIG.
const PROTOCOL_FEATURES: u64 = 1 << 0 | 1 << 3 | 1 << 9;

/// See the module. Ends when it is dropped.
pub struct Relay {
    dir: TempDir,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    replays: AtomicU64,
    reads: AtomicU64,
    /// A ring that is not to be served.
    to_halt: Mutex<Option<u32>>,
    /// The one that is not.
    halted: Mutex<Option<u32>>,
}

impl Relay {
    /// Relays to whoever listens at `back_end`, now or later.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start(back_end: &Path) -> Result<Self> {
        let dir = tempfile::tempdir().context("no directory for a relay")?;
        let listener = UnixListener::bind(dir.path().join("relay.sock"))?;
        listener.set_nonblocking(true)?;
        let seen = Arc::new(Seen::default());
        let (back_end, its) = (back_end.to_path_buf(), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            while !its.is_over.load(SeqCst) {
                match listener.accept() {
                    Ok((front, _)) => {
                        if let Err(error) = relay(&front, &back_end, &its) {
                            eprintln!("the relay: {error:#}");
                        }
                    }
                    Err(_) => std::thread::sleep(PAUSE),
                }
            }
        });
        Ok(Self {
            dir,
            seen,
            thread: Some(thread),
        })
    }

    /// Where QEMU connects to.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("relay.sock")
    }

    /// Back ends that were told what the one before had been told.
    pub fn replays(&self) -> u64 {
        self.seen.replays.load(SeqCst)
    }

    /// Has the back end leave a ring alone, and serve the one it left alone before.
    ///
    /// # Errors
    /// There is no back end.
    pub fn halt(&self, ring: Option<u32>) -> Result<()> {
        *lock(&self.seen.to_halt) = ring;
        until("the relay to hear of a ring", ANSWER, || {
            Ok((*lock(&self.seen.halted) == ring).then_some(()))
        })
    }

    /// Reads of configuration space while there was no back end.
    pub fn fatal_reads(&self) -> u64 {
        self.seen.reads.load(SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.seen.is_over.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            // What went wrong there was said.
            let _ = thread.join();
        }
    }
}

/// One connection of QEMU's, until that ends.
fn relay(front: &UnixStream, path: &Path, seen: &Seen) -> Result<()> {
    front.set_nonblocking(false)?;
    front.set_read_timeout(Some(PAUSE))?;
    let mut relaying = Relaying {
        back: Some(connect(path)?),
        session: Session::default(),
        answers: BTreeMap::new(),
        seen,
    };
    while !seen.is_over.load(SeqCst) {
        relaying.look_after(path);
        relaying.halt()?;
        let Some(message) = Message::receive(front)? else {
            continue;
        };
        if let Some(answer) = relaying.pass(message)? {
            answer.send(front)?;
        }
    }
    Ok(())
}

fn connect(path: &Path) -> Result<UnixStream> {
    let back = UnixStream::connect(path)?;
    back.set_read_timeout(Some(ANSWER))?;
    Ok(back)
}

struct Relaying<'a> {
    back: Option<UnixStream>,
    session: Session,
    /// The last answer to each question.
    answers: BTreeMap<u32, Vec<u8>>,
    seen: &'a Seen,
}

impl Relaying<'_> {
    /// Notices a back end that has gone, and one that has come.
    fn look_after(&mut self, path: &Path) {
        if self.back.as_ref().is_some_and(is_gone) {
            self.back = None;
        }
        if self.back.is_none()
            && let Ok(back) = connect(path)
        {
            let halted = *lock(&self.seen.halted);
            // A back end that goes while it is told is tried again.
            match self.session.replay(&back, halted) {
                Ok(()) => {
                    self.seen.replays.fetch_add(1, SeqCst);
                    self.back = Some(back);
                }
                Err(error) => eprintln!("the relay: {error:#}"),
            }
        }
    }

    /// Has rings served, or not, as it was asked for.
    fn halt(&self) -> Result<()> {
        let (wanted, now) = (*lock(&self.seen.to_halt), *lock(&self.seen.halted));
        let Some(back) = self.back.as_ref().filter(|_| wanted != now) else {
            return Ok(());
        };
        for (ring, is_served) in [(now, true), (wanted, false)] {
            if let Some(ring) = ring {
                enable(ring, is_served).send(back)?;
            }
        }
        // It has done so when it answers what comes after.
        Message::request(GET_FEATURES, Vec::new()).send(back)?;
        Message::receive(back)?.context("the back end does not answer")?;
        *lock(&self.seen.halted) = wanted;
        Ok(())
    }

    /// Does what a message of QEMU's wants. Gives what answers it.
    fn pass(&mut self, message: Message) -> Result<Option<Message>> {
        let needs_answer = message.needs_answer();
        let acknowledgement = message
            .needs_acknowledgement()
            .then(|| message.reply(vec![0; 8]));
        // The ring begins where the driver is, once it is known where the ring is.
        if message.code == SET_VRING_BASE {
            return Ok(acknowledgement);
        }
        let answer = match self.ask(&message, needs_answer)? {
            Some(answer) => answer,
            None => self.answer_alone(&message)?,
        };
        let ring = message.u32(0);
        match message.code {
            GET_VRING_BASE => self.session.stop(ring),
            SET_VRING_ADDR => {
                self.session.keep(message);
                if let Some(back) = &self.back {
                    base(ring, self.session.available(ring)?).send(back)?;
                }
            }
            _ => self.session.keep(message),
        }
        Ok(answer)
    }

    /// Asks the back end. Gives nothing when there is none.
    fn ask(&mut self, message: &Message, needs_answer: bool) -> Result<Option<Option<Message>>> {
        let Some(back) = &self.back else {
            return Ok(None);
        };
        let answered = message.send(back).and_then(|()| {
            if !needs_answer {
                return Ok(None);
            }
            let answer = Message::receive(back)?;
            answer.context("the back end does not answer").map(Some)
        });
        let Ok(mut answer) = answered else {
            self.back = None;
            return Ok(None);
        };
        if let Some(answer) = &mut answer {
            if answer.code == GET_PROTOCOL_FEATURES {
                answer.body = (answer.u64(0) & PROTOCOL_FEATURES).to_le_bytes().into();
            }
            self.answers.insert(answer.code, answer.body.clone());
        }
        Ok(Some(answer))
    }

    /// Answers without a back end.
    fn answer_alone(&mut self, message: &Message) -> Result<Option<Message>> {
        if !message.needs_answer() {
            return Ok(None);
        }
        let body = match message.code {
            GET_VRING_BASE => {
                let ring = message.u32(0);
                base(ring, self.session.used(ring)?).body
            }
            code => {
                if code == GET_CONFIG {
                    self.seen.reads.fetch_add(1, SeqCst);
                }
                match self.answers.get(&code) {
                    _ if message.needs_acknowledgement() && code != GET_CONFIG => vec![0; 8],
                    Some(body) => body.clone(),
                    None => bail!("a question that was never answered: {code}"),
                }
            }
        };
        Ok(Some(message.reply(body)))
    }
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the peer has closed the connection.
fn is_gone(stream: &UnixStream) -> bool {
    let mut byte = [0; 1];
    let peeked = rustix::net::recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
    match peeked {
        Ok((_, count)) => count == 0,
        Err(Errno::AGAIN | Errno::INTR) => false,
        Err(_) => true,
    }
}
