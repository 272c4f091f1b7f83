// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a program has of a virtual machine, and how it comes by one.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::personality::VmDevice;

use super::name::Name;
use super::settings::Settings;

/// A virtual machine that is served. Its door opened it; dropping it frees what it holds.
pub trait Machine: Debug + Send + Sync {
    /// Its device.
    fn device(&self) -> &dyn VmDevice;

    /// Its front ends.
    fn connection(&self) -> Connection;

    /// Changes how long its pages are kept without a front end.
    fn set_grace(&self, grace: Duration);

    /// Judges settings that it is to have from now on.
    ///
    /// # Errors
    /// A sentence about what it cannot have.
    fn judge(&self, _settings: &Settings) -> Result<(), String> {
        Ok(())
    }

    /// What is to be done every so often.
    fn look_after(&self);

    /// Ends its connection, destroys its pools and removes its socket. Returns when this
    /// is done.
    fn end(&self);
}

/// Front ends of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// One is connected.
    pub connected: bool,
    /// Those that connected so far.
    pub connections: u64,
    /// How often the grace period ended without one.
    pub expiries: u64,
}

/// How front ends of virtual machines come in.
pub trait Door: Debug + Send + Sync {
    /// Begins to serve a machine.
    ///
    /// # Errors
    /// A sentence about what keeps it from being served.
    fn open(&self, name: &Name, settings: &Settings) -> anyhow::Result<Arc<dyn Machine>>;

    /// Where the socket of a machine is, if it has one in the file system.
    fn socket(&self, name: &Name, settings: &Settings) -> Option<PathBuf>;

    /// Why no machine can be added or removed while the program runs, if so.
    fn is_shut(&self) -> Option<&str> {
        None
    }
}
