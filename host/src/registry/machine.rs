// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a program has of a virtual machine, and how it comes by one.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tmem_store::{Base, CloneError};

use crate::personality::VmDevice;

use super::name::Name;
use super::refusal::Refusal;
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

    /// Looks whether its driver stands still, so that its pages can be saved.
    ///
    /// # Errors
    /// A sentence, when it does not, or cannot be saved at all.
    fn stands_still(&self) -> Result<Still, String> {
        Err("the pages of this program's virtual machines cannot be saved".into())
    }

    /// Has what it has become a base, over which it goes on, if it `is_as_it_was`; `share` has others go
    /// on over it, too. A front end that comes meanwhile waits: what nobody but this machine saw of the
    /// base, and then replaced, would be gone.
    ///
    /// # Errors
    /// See [`NoBase`]; that of `share`.
    fn to_base(
        &self,
        _is_as_it_was: &dyn Fn() -> bool,
        _share: &dyn Fn(&Arc<Base>) -> Result<(), CloneError>,
    ) -> Result<(), NoBase> {
        Err(NoBase::OnlyCopied(CloneError::NoMemory))
    }

    /// Gives up what it has, and has it what `fill` puts into its pools instead, while no front end
    /// is let in; `fill` is told whether to go on. From then on its set of pools has the name
    /// `instance`, and the driver is the one that comes back as `driver` says.
    ///
    /// # Errors
    /// Why that is not so. It has nothing then, or what it had before.
    fn restore(
        &self,
        _instance: [u8; 16],
        _driver: &Value,
        _fill: &mut Fill<'_>,
    ) -> Result<(), Refusal> {
        let why = "the virtual machines of this program cannot be restored";
        Err(Refusal::Conflict(why.into()))
    }

    /// Ends its connection, destroys its pools and removes its socket. Returns when this
    /// is done.
    fn end(&self);
}

/// Puts pages where there are none, for as long as it is told to go on.
pub type Fill<'a> = dyn FnMut(&dyn Fn() -> bool) -> Result<(), Refusal> + 'a;

/// Why what a machine has does not become a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBase {
    /// It is not as it was.
    RanOn,
    /// Its pages can only be copied.
    OnlyCopied(CloneError),
}

/// A driver that stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Still {
    /// As long as this is the same, it stood still.
    pub number: u64,
    /// By what it is known when it comes back.
    pub driver: Value,
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
