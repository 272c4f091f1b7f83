// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A program that a test has started, on this machine or in an outer guest.
//! It does not outlive its handle.

use crate::job::Ended;
use crate::link::Link;
use crate::link::Replies;
use crate::link::lock;
use crate::process::Process;
use crate::wait::until;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tmem_agent::protocol::Answer;
use tmem_agent::protocol::Command;

/// For an outer guest to start a program, or to signal one.
const TOLD: Duration = Duration::from_secs(60);

/// For a killed program to be gone.
const GONE: Duration = Duration::from_secs(60);

/// SIGTERM and SIGKILL.
const TERMINATE: i32 = 15;
const KILL: i32 = 9;

/// A running program.
pub struct Program {
    name: String,
    place: Place,
}

enum Place {
    Here(Process),
    Outer(Outer),
}

/// A program that an outer guest's agent has started.
struct Outer {
    link: Arc<Link>,
    job: u64,
    pid: u32,
    /// What the agent said of its end: how it ended, or that it is not known.
    end: Arc<Mutex<Option<std::result::Result<Ended, String>>>>,
}

impl Program {
    /// A process of this machine.
    pub(crate) fn here(name: &str, command: &mut std::process::Command) -> Result<Self> {
        Ok(Self {
            name: name.to_string(),
            place: Place::Here(Process::start(name, command)?),
        })
    }

    /// Has the agent at `link` start a program with its output in the file
    /// `log` there; calls `ended` before anybody can learn of its end.
    pub(crate) fn outer(
        name: &str,
        link: &Arc<Link>,
        argv: Vec<String>,
        log: String,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<Self> {
        let replies = link.send(Command::Spawn { argv, output: log })?;
        let job = replies.id;
        let pid = match replies.next(name, TOLD)? {
            Answer::Started { pid } => pid,
            other => bail!("{name} did not start: {other:?}"),
        };
        let end = Arc::new(Mutex::new(None));
        let told = Arc::clone(&end);
        std::thread::spawn(move || {
            let how = how_it_ended(&replies);
            ended();
            *lock(&told) = Some(how);
        });
        Ok(Self {
            name: name.to_string(),
            place: Place::Outer(Outer {
                link: Arc::clone(link),
                job,
                pid,
                end,
            }),
        })
    }

    /// Its process id, where it runs.
    pub fn pid(&self) -> u32 {
        match &self.place {
            Place::Here(process) => process.pid(),
            Place::Outer(outer) => outer.pid,
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// It is lost.
    pub fn ended(&mut self) -> Result<Option<Ended>> {
        match &mut self.place {
            Place::Here(process) => Ok(process.ended()?.map(ended)),
            Place::Outer(outer) => match &*lock(&outer.end) {
                Some(Ok(ended)) => Ok(Some(*ended)),
                Some(Err(why)) => bail!("{} is lost: {why}", self.name),
                None => Ok(None),
            },
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<Ended> {
        let what = format!("the end of {}", self.name);
        until(&what, limit, || self.ended())
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<Ended> {
        self.signal(TERMINATE)?;
        self.wait(limit)
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Errors
    /// It is lost.
    pub fn kill(&mut self) -> Result<Ended> {
        self.signal(KILL)?;
        self.wait(GONE)
    }

    pub(crate) fn signal(&mut self, signal: i32) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        match &self.place {
            Place::Here(process) => process.signal(signal),
            Place::Outer(outer) => {
                let job = outer.job;
                let told = outer.link.send(Command::Signal { job, signal })?;
                match told.next(&self.name, TOLD) {
                    // It may have ended just before.
                    Err(_) if self.ended()?.is_some() => Ok(()),
                    other => other.map(|_| ()).context("cannot signal it"),
                }
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nothing more can be done about one that cannot be killed.
        let _ = self.kill();
    }
}

fn how_it_ended(replies: &Replies) -> std::result::Result<Ended, String> {
    match replies.wait() {
        Some(Answer::Exited { code, signal }) => Ok(Ended { code, signal }),
        Some(other) => Err(format!("{other:?}")),
        None => Err("the outer guest has ended".into()),
    }
}

fn ended(status: ExitStatus) -> Ended {
    Ended {
        code: status.code(),
        signal: status.signal(),
    }
}
