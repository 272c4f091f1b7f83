// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How the registry has a virtual machine served: a device, a socket, and the thread
//! that waits for front ends.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tmem_cli::socket::{Access, Socket};
use tmem_host::image::Workers;
use tmem_host::registry::{self, Machine, Name, Settings, Shares};

use crate::doors::Doors;
use crate::entry::Entry;
use crate::room::Room;
use crate::takeover::Takeover;
use crate::vm::Vm;

/// Opens virtual machines for vhost-user.
#[derive(Clone, Debug)]
pub struct Door {
    /// Where their pages are, and what an earlier daemon has left.
    pub takeover: Arc<Takeover>,
    /// What waits for their front ends.
    pub doors: Arc<Doors>,
    /// The daemon's control group.
    pub room: Arc<Room>,
    /// What machines have together.
    pub shares: Arc<Shares>,
    /// Threads that save and restore machines for their front ends.
    pub workers: Arc<Workers>,
    /// Who may connect to sockets.
    pub access: Access,
    /// Where sockets are that have no path of their own.
    pub run: PathBuf,
    /// Request queues of each device.
    pub request_queues: u32,
    /// Longest that a ring is looked at before a queue's thread sleeps.
    pub poll_max: Duration,
    /// Sockets of machines that the daemon was started with. They are there as long as it is,
    /// so that a machine can be removed and added again.
    pub inherited: Arc<BTreeMap<Name, UnixListener>>,
}

impl Door {
    fn serve(&self, name: &Name, settings: &Settings, entry: Entry) -> Result<Arc<dyn Machine>> {
        let vm = Vm::new(
            self.takeover.clone(),
            name.as_str(),
            settings,
            self.request_queues,
            Some(self.shares.of(name)),
        )?;
        let vm = vm.within(self.room.clone()).polled(self.poll_max);
        let vm = Arc::new(vm.saved_by(self.workers.clone()));
        Ok(self.doors.serve(vm, entry)?)
    }

    fn path(&self, name: &Name, settings: &Settings) -> PathBuf {
        let own = settings.socket.clone();
        own.unwrap_or_else(|| self.run.join(format!("{name}.sock")))
    }
}

impl registry::Door for Door {
    fn open(&self, name: &Name, settings: &Settings) -> Result<Arc<dyn Machine>> {
        if let Some(listener) = self.inherited.get(name) {
            let listener = listener.try_clone().context("cannot copy a socket")?;
            return self.serve(name, settings, Entry::Inherited(listener));
        }
        if settings.socket.is_none() {
            let run = self.run.display();
            std::fs::create_dir_all(&self.run)
                .with_context(|| format!("cannot make the runtime directory '{run}'"))?;
        }
        let socket = Socket::bind(&self.path(name, settings), self.access)?;
        self.serve(name, settings, Entry::Made(socket))
    }

    fn socket(&self, name: &Name, settings: &Settings) -> Option<PathBuf> {
        let Some(listener) = self.inherited.get(name) else {
            return Some(self.path(name, settings));
        };
        let address = listener.local_addr().ok()?;
        address.as_pathname().map(PathBuf::from)
    }
}
