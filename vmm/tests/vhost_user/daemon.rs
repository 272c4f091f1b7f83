// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The real daemon's parts, in this process.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;
use tmem_store::{ClientConfig, Compression, StoreConfig};
use vhost::vhost_user::Listener;
use vhost_user_tmem::settings::{Place, VmSettings};
use vhost_user_tmem::stop::Stop;
use vhost_user_tmem::takeover::{Takeover, identity_of};
use vhost_user_tmem::vhost_user;
use vhost_user_tmem::vm::Vm;
use virtio_tmem::device::{GiveBack, Quota};

const QUOTA: u64 = 256 << 20;

/// A place where daemons come and go.
pub(crate) struct Host {
    dir: TempDir,
    takeover: Takeover,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            takeover: Takeover::nothing(StoreConfig::with_limit(2 * QUOTA)).unwrap(),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("vm.sock")
    }

    /// A machine's pools, with an instance of their own. They outlive the
    /// daemons that serve them.
    pub(crate) fn pools(&self, request_queues: u32) -> Arc<Vm> {
        let settings = VmSettings {
            name: "vm".into(),
            place: Place::Path(self.socket()),
            quota: Quota::Fixed(QUOTA),
            weight: ClientConfig::WEIGHT,
            swap_pages: QUOTA / 4096,
            codec: Compression::default(),
            give_back: GiveBack::default(),
            identity: identity_of("vm"),
        };
        let grace = Duration::from_secs(3600);
        Arc::new(Vm::new(&self.takeover, &settings, request_queues, grace).unwrap())
    }

    /// Starts a daemon that serves `pools`.
    pub(crate) fn serve(&self, pools: &Arc<Vm>) -> Daemon {
        let listener = listen(&self.socket());
        let stop = Arc::new(Stop::new().unwrap());
        let (pools, stopped) = (pools.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut accepting = Listener::from(listener.try_clone().unwrap());
            vhost_user::serve(&pools, 0, &mut accepting, &listener, &stopped);
        });
        Daemon {
            stop,
            thread: Some(thread),
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
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
    socket: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
        self.stop.ask();
        self.thread.take().unwrap().join().unwrap();
    }
}
