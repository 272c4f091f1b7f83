// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One virtual machine of the registry.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::machine::Machine;
use super::name::Name;
use super::settings::Settings;

/// Where the settings of a machine come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The program's command line.
    CommandLine,
    /// A file of the administrator.
    File(PathBuf),
    /// The service manager, which has its socket.
    ServiceManager,
    /// The control API.
    Api,
}

impl Origin {
    /// What the control API calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CommandLine => "command-line",
            Self::File(_) => "file",
            Self::ServiceManager => "service-manager",
            Self::Api => "api",
        }
    }
}

/// A virtual machine that is served, and what it may.
#[derive(Debug)]
pub struct Entry {
    name: Name,
    origin: Origin,
    socket: Option<PathBuf>,
    settings: Mutex<Settings>,
    machine: Arc<dyn Machine>,
    is_removed: AtomicBool,
}

impl Entry {
    pub(super) fn new(
        name: Name,
        origin: Origin,
        socket: Option<PathBuf>,
        settings: Settings,
        machine: Arc<dyn Machine>,
    ) -> Self {
        Self {
            name,
            origin,
            socket,
            settings: Mutex::new(settings),
            machine,
            is_removed: AtomicBool::new(false),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Where its settings come from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Where front ends connect.
    pub fn socket(&self) -> Option<&PathBuf> {
        self.socket.as_ref()
    }

    /// What it may.
    pub fn settings(&self) -> Settings {
        self.lock().clone()
    }

    pub(super) fn set_settings(&self, settings: Settings) {
        *self.lock() = settings;
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is removed, or about to be: what is done for it is to end.
    pub(crate) fn is_removed(&self) -> bool {
        self.is_removed.load(SeqCst)
    }

    /// Notes whether it is about to be removed.
    pub(super) fn set_removed(&self, is_removed: bool) {
        self.is_removed.store(is_removed, SeqCst);
    }

    /// What is served.
    pub fn machine(&self) -> &Arc<dyn Machine> {
        &self.machine
    }
}
