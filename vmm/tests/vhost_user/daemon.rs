// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The real daemon's parts, in this process.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tmem_host::registry::{Amount, Defaults, Said};
use tmem_store::StoreConfig;
use vhost_user_tmem::doors::Doors;
use vhost_user_tmem::entry::Entry;
use vhost_user_tmem::takeover::Takeover;
use vhost_user_tmem::vm::Vm;
use virtio_tmem::device::Quota;

const QUOTA: u64 = 256 << 20;

/// A place where daemons come and go.
pub(crate) struct Host {
    dir: TempDir,
    takeover: Arc<Takeover>,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            takeover: Arc::new(Takeover::nothing(StoreConfig::with_limit(2 * QUOTA)).unwrap()),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("vm.sock")
    }

    /// A machine's pools, with an instance of their own. They outlive the
    /// daemons that serve them.
    pub(crate) fn pools(&self, request_queues: u32) -> Arc<Vm> {
        self.made(Said::default(), request_queues)
    }

    /// A machine with a plain disk of so many bytes, and no swap header.
    pub(crate) fn disk(&self, bytes: u64, request_queues: u32) -> Arc<Vm> {
        let said = Said {
            personality: Some("blk".to_owned()),
            size: Some(Amount::Bytes(bytes)),
            swapspace: Some(false),
            ..Said::default()
        };
        self.made(said, request_queues)
    }

    fn made(&self, said: Said, request_queues: u32) -> Arc<Vm> {
        let defaults = Defaults {
            quota: Quota::Fixed(QUOTA),
            swap_size: Some(QUOTA),
            grace: Duration::from_secs(3600),
        };
        let settings = said.over(&defaults).unwrap();
        Arc::new(Vm::new(self.takeover.clone(), "vm", &settings, request_queues, None).unwrap())
    }

    /// Starts a daemon that serves `pools`.
    pub(crate) fn serve(&self, pools: &Arc<Vm>) -> Daemon {
        let doors = Doors::start().unwrap();
        let entry = Entry::Inherited(listen(&self.socket()));
        doors.serve(pools.clone(), entry).unwrap();
        Daemon {
            doors,
            socket: self.socket(),
        }
    }
}

/// Listens at `path`, instead of whoever listened there.
pub(crate) fn listen(path: &Path) -> UnixListener {
    let _ = fs::remove_file(path);
    UnixListener::bind(path).unwrap()
}

/// A daemon that runs until it is dropped.
pub(crate) struct Daemon {
    doors: Doors,
    socket: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
        self.doors.end();
    }
}
