// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon as a child process.
#![allow(
    dead_code,
    reason = "each test binary uses what it needs of this module"
)]
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take before the test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `done`.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The daemon's program with `args`.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vhost-user-tmem"));
    command.args(args);
    command
}

/// Runs the daemon with `args`, which it must not accept.
pub(crate) fn run(args: &[&str]) -> Output {
    program(args).output().unwrap()
}

/// A running daemon; killed if it is dropped.
pub(crate) struct Daemon {
    child: Child,
    dir: TempDir,
}

impl Daemon {
    /// Starts a daemon that serves the VMs `names` with `args`, and waits until
    /// it listens.
    pub(crate) fn start(names: &[&str], args: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        // Whoever runs the tests may ignore signals.
        let mut command = Command::new("env");
        command.arg("--default-signal");
        command.arg(env!("CARGO_BIN_EXE_vhost-user-tmem"));
        command.args(["--memory-limit", "256M"]);
        for name in names {
            command.arg("--socket-path").arg(socket(dir.path(), name));
        }
        command
            .arg("--control-socket")
            .arg(socket(dir.path(), "control"));
        command.args(args).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let daemon = Self { child, dir };
        until("the daemon listens", || {
            daemon.control("GET", "/v1/stats", "").is_some()
        });
        daemon
    }

    /// Socket of the VM `name`.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        socket(self.dir.path(), name)
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes a request to the control socket: status and body, or `None` if
    /// nobody listens.
    pub(crate) fn control(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        use std::io::Write;
        let mut stream = std::os::unix::net::UnixStream::connect(self.socket("control")).ok()?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: tmem\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }

    /// The statistics of the VM `name`.
    pub(crate) fn vm_stats(&self, name: &str) -> serde_json::Value {
        let (status, body) = self.control("GET", "/v1/stats", "").unwrap();
        assert_eq!(status, 200);
        let stats: serde_json::Value = serde_json::from_str(&body).unwrap();
        stats["vms"][name].clone()
    }

    /// Whether the daemon still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends `signal`; returns how the daemon ended, what it logged, and the
    /// directory with what it left behind.
    pub(crate) fn end(mut self, signal: Signal) -> (ExitStatus, String, Vec<PathBuf>) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        let mut log = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        let status = self.child.wait().unwrap();
        let left = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        (status, log, left)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.sock"))
}
