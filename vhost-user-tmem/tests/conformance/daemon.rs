// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon's program, with two virtual machines.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    /// Serves the machines `a` and `b`.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_vhost-user-tmem"))
            .args(["--memory-limit", "64M", "--quota", "16M", "--socket-path"])
            .arg(folder.path().join("a.sock"))
            .arg("--socket-path")
            .arg(folder.path().join("b.sock"))
            .spawn()
            .unwrap();
        let this = Self { child, folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !this.socket("b").exists() {
            assert!(Instant::now() < deadline, "the daemon does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        this
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.sock"))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends SIGTERM; how the daemon ended, if it did within some seconds.
    pub(crate) fn terminate(&mut self) -> Option<ExitStatus> {
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::TERM).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
