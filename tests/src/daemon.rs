// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon, and what it says about itself.

use crate::assets::Assets;
use crate::console;
use crate::process::Process;
use crate::wait::until;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// For the daemon to start, to answer, or to end.
const PROMPT: Duration = Duration::from_secs(30);

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// One socket each.
    pub vms: Vec<&'static str>,
    /// `--quota`.
    pub quota: &'static str,
    /// `--swap-size`.
    pub swap_size: &'static str,
    /// `--memory-limit`.
    pub memory_limit: &'static str,
    /// `--request-queues`.
    pub request_queues: u32,
    /// `--grace`, in seconds.
    pub grace: u32,
}

impl Default for DaemonOptions {
    fn default() -> Self {
        Self {
            vms: vec!["vm0"],
            quota: "1G",
            swap_size: "2G",
            memory_limit: "4G",
            request_queues: 2,
            grace: 120,
        }
    }
}

/// A running daemon. Dropped without [`Daemon::stop`], as by a test that fails,
/// it is killed and the end of its log is shown.
pub struct Daemon {
    process: Process,
    dir: TempDir,
    done: bool,
}

impl Daemon {
    /// Starts a daemon and waits until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(assets: &Assets, options: &DaemonOptions) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("tmem-daemon-")
            .tempdir()
            .context("cannot make a directory for the daemon")?;
        let log = std::fs::File::create(dir.path().join("log")).context("cannot make a log")?;
        let mut command = Command::new(&assets.daemon);
        for vm in &options.vms {
            command
                .arg("--socket-path")
                .arg(dir.path().join(format!("{vm}.sock")));
        }
        command
            .arg("--control-socket")
            .arg(dir.path().join("control.sock"))
            .args(["--quota", options.quota])
            .args(["--swap-size", options.swap_size])
            .args(["--memory-limit", options.memory_limit])
            .args(["--request-queues", &options.request_queues.to_string()])
            .args(["--grace", &options.grace.to_string()])
            .args(["--log-level", "info"])
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log);
        let process = Process::start("the daemon", &mut command)?;
        let mut daemon = Self {
            process,
            dir,
            done: false,
        };
        until("the daemon to listen", PROMPT, || {
            if let Some(status) = daemon.process.ended()? {
                bail!("the daemon ended ({status}): {}", daemon.log());
            }
            Ok(daemon.stats().ok())
        })?;
        Ok(daemon)
    }

    /// The socket of the VM `name`.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.sock"))
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Statistics, as the control socket gives them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn stats(&self) -> Result<Stats> {
        let text = self.get("/v1/stats")?;
        let value = serde_json::from_str(&text).context("the statistics are no JSON")?;
        Ok(Stats { value })
    }

    /// Asks it to end (SIGTERM); it must do so with exit code 0.
    ///
    /// # Errors
    /// It does not.
    pub fn stop(mut self) -> Result<()> {
        let status = self.process.terminate(PROMPT)?;
        if !status.success() {
            bail!("the daemon ended with {status}: {}", self.log());
        }
        let log = self.log();
        if log.contains("panicked") {
            bail!("the daemon panicked: {log}");
        }
        self.done = true;
        Ok(())
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = UnixStream::connect(self.dir.path().join("control.sock"))
            .context("the control socket is closed")?;
        stream.set_read_timeout(Some(PROMPT))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .context("the control socket does not answer")?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("the control socket speaks no HTTP")?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("GET {path}: {}", head.lines().next().unwrap_or_default());
        }
        Ok(body.to_string())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.done {
            eprintln!(
                "---- the daemon's log\n{}\n----",
                console::tail(&self.log(), 40)
            );
        }
    }
}

/// The daemon's statistics.
#[derive(Clone, Debug)]
pub struct Stats {
    value: Value,
}

impl Stats {
    /// The number at `pointer` (RFC 6901).
    ///
    /// # Errors
    /// There is none.
    pub fn number(&self, pointer: &str) -> Result<u64> {
        self.value
            .pointer(pointer)
            .and_then(Value::as_u64)
            .with_context(|| format!("the statistics have no number {pointer}: {}", self.value))
    }
}
