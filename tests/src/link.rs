// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's end of the line to the agent.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::collections::HashMap;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tmem_agent::protocol::Answer;
use tmem_agent::protocol::Command;
use tmem_agent::protocol::READY;
use tmem_agent::protocol::Reply;
use tmem_agent::protocol::Request;

/// Who waits for which id. Gone once the guest is.
type Waiting = Arc<Mutex<Option<HashMap<u64, Sender<Answer>>>>>;

/// Sends requests, and hands each reply to whoever asked.
pub(crate) struct Link {
    port: Mutex<UnixStream>,
    waiting: Waiting,
    ready: Mutex<Receiver<()>>,
    next: AtomicU64,
}

/// Replies to one request.
pub(crate) struct Replies {
    pub(crate) id: u64,
    answers: Receiver<Answer>,
}

impl Link {
    pub(crate) fn new(port: UnixStream) -> Result<Self> {
        let input = port.try_clone().context("cannot share the agent's port")?;
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let (announce, ready) = mpsc::channel();
        let shared = Arc::clone(&waiting);
        std::thread::spawn(move || {
            for line in BufReader::new(input).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                let line = line.trim();
                if line == READY {
                    // A receiver that is gone no longer waits for it.
                    let _ = announce.send(());
                } else if !line.is_empty() {
                    match serde_json::from_str::<Reply>(line) {
                        Ok(reply) => hand_over(&shared, reply),
                        // Who waits for it will say what is missing.
                        Err(error) => eprintln!("the guest's agent says {line:?}: {error}"),
                    }
                }
            }
            // The guest is gone: nobody gets an answer any more.
            lock(&shared).take();
        });
        Ok(Self {
            port: Mutex::new(port),
            waiting,
            ready: Mutex::new(ready),
            next: AtomicU64::new(1),
        })
    }

    /// Waits until the agent listens.
    pub(crate) fn ready(&self, limit: Duration) -> Result<()> {
        match lock(&self.ready).recv_timeout(limit) {
            Ok(()) => Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest's agent did not start in {} s", limit.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the guest ended before its agent started")
            }
        }
    }

    /// Forgets the guest of before, which has ended, for another one that will
    /// use the same line.
    pub(crate) fn renew(&self) {
        let ready = lock(&self.ready);
        while ready.try_recv().is_ok() {}
        lock(&self.waiting).replace(HashMap::new());
    }

    /// Has everybody know that the guest has ended, where the line itself does
    /// not tell.
    pub(crate) fn end(&self) {
        lock(&self.waiting).take();
    }

    pub(crate) fn send(&self, command: Command) -> Result<Replies> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (to, answers) = mpsc::channel();
        lock(&self.waiting)
            .as_mut()
            .context("the guest has ended")?
            .insert(id, to);
        let mut line = serde_json::to_string(&Request { id, command })?;
        line.push('\n');
        lock(&self.port)
            .write_all(line.as_bytes())
            .context("the guest has ended")?;
        Ok(Replies { id, answers })
    }
}

impl Replies {
    /// The next answer, however long it takes; none if the guest ends before.
    pub(crate) fn wait(&self) -> Option<Answer> {
        self.answers.recv().ok()
    }

    /// The next answer; an answer that it failed is an error.
    pub(crate) fn next(&self, what: &str, limit: Duration) -> Result<Answer> {
        match self.answers.recv_timeout(limit) {
            Ok(Answer::Failed(why)) => bail!("{what}: {why}"),
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                bail!("{what}: no answer from the guest in {} s", limit.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => bail!("{what}: the guest has ended"),
        }
    }
}

fn hand_over(waiting: &Waiting, reply: Reply) {
    if let Some(waiting) = lock(waiting).as_mut()
        && let Some(to) = waiting.get(&reply.id)
        && to.send(reply.answer).is_err()
    {
        waiting.remove(&reply.id);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
