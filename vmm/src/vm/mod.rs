// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A running virtual machine, as its user and the API see it.

mod assemble;
mod report;

pub use assemble::assemble;
pub use report::Reported;

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tmem_host::api::Api;

use crate::machine::{Event, Running};
use crate::virtio::tmem::{self, TmemInProcess};

/// Whether the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs.
    Running,
    /// It stands still.
    Paused,
}

/// Where the guest's transcendent memory is.
pub enum Tmem {
    /// It has none.
    None,
    /// In this process.
    InProcess(TmemInProcess),
    /// With a daemon, which has the quota.
    Daemon,
}

impl Tmem {
    /// What the API calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::InProcess(_) => "in-process",
            Self::Daemon => "daemon",
        }
    }

    fn control(&self) -> Api {
        match self {
            Self::InProcess(tmem) => tmem.api().clone(),
            Self::None => tmem::api_of_nobody(
                "this machine has no transcendent memory; start it with --tmem quota=SIZE or --tmem-swap SIZE",
            ),
            Self::Daemon => tmem::api_of_nobody(
                "the daemon has this machine's transcendent memory: ask at its control socket",
            ),
        }
    }
}

/// A machine with its devices.
pub struct Vm {
    /// Dropped first: no vCPU runs when the devices go.
    running: Running,
    state: Mutex<State>,
    /// vCPUs.
    pub cpus: u8,
    /// The guest's memory in bytes.
    pub memory: u64,
    /// The store.
    pub tmem: Tmem,
    /// What an operator sees and changes of the store.
    pub control: Api,
    /// Devices with metrics.
    pub reported: Vec<Reported>,
    events: Sender<Event>,
}

impl Vm {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the guest runs.
    pub fn state(&self) -> State {
        *self.lock()
    }

    /// Stops the guest; returns when it stands still.
    pub fn pause(&self) {
        let mut state = self.lock();
        self.running.pause();
        *state = State::Paused;
    }

    /// Lets the guest go on.
    pub fn resume(&self) {
        let mut state = self.lock();
        self.running.resume();
        *state = State::Running;
    }

    /// Presses the guest's power button: it shuts down, if it listens.
    pub fn press_power_button(&self) {
        self.running.press_button();
    }

    /// Ends the machine without asking the guest.
    pub fn end(&self) {
        // It is at its end already if nobody listens.
        let _ = self.events.send(Event::Quit);
    }
}

/// Shared by the first thread and the API's.
pub type SharedVm = Arc<Vm>;
