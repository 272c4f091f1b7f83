// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A child process that does not outlive its handle.

use crate::wait::until;
use anyhow::Context;
use anyhow::Result;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::time::Duration;

/// A running program.
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_string(),
            child,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("{} is lost", self.name))
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        until(&what, limit, || self.ended())
    }

    /// Sends it `signal`, if it runs.
    pub(crate) fn signal(&self, signal: i32) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = rustix::process::Signal::from_named_raw(signal)
            .with_context(|| format!("there is no signal {signal}"))?;
        rustix::process::kill_process(pid, signal)
            .with_context(|| format!("cannot signal {}", self.name))
    }

    /// Ends it at once (SIGKILL).
    pub(crate) fn kill(&mut self) -> Result<ExitStatus> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .with_context(|| format!("cannot kill {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing more can be done about one that cannot be killed.
        let _ = self.kill();
    }
}
