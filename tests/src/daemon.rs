// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon, and what it says about itself.

use crate::assets::Assets;
use crate::console;
use crate::host::Host;
use crate::program::Program;
use crate::wait::until;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// For the daemon to start, to answer, or to end.
const PROMPT: Duration = Duration::from_secs(30);

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// One socket each.
    pub vms: Vec<&'static str>,
    /// Those whose device is a virtio-blk disk of the size of `swap_size`.
    pub disks: Vec<&'static str>,
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
    /// Whether metrics are on a port as well.
    pub listens: bool,
    /// Whether pages and connections outlive a daemon, with a holder.
    pub kept: bool,
    /// Bytes of the spill area, as `--spill` has them.
    pub spill: Option<&'static str>,
    /// `--remote`.
    pub remote: Option<String>,
}

impl Default for DaemonOptions {
    fn default() -> Self {
        Self {
            vms: vec!["vm0"],
            disks: Vec::new(),
            quota: "1G",
            swap_size: "2G",
            memory_limit: "4G",
            request_queues: 2,
            grace: 120,
            listens: false,
            kept: false,
            spill: None,
            remote: None,
        }
    }
}

/// Where a daemon has its sockets, whether it runs or not.
#[derive(Clone)]
pub struct DaemonPlace {
    host: Arc<Host>,
    options: DaemonOptions,
    dir: PathBuf,
    /// What outlives a daemon is with it.
    _holder: Option<Arc<Program>>,
}

impl DaemonPlace {
    /// A place on `host`.
    ///
    /// # Errors
    /// No directory can be made, or the holder does not start.
    pub fn new(host: &Arc<Host>, options: DaemonOptions) -> Result<Self> {
        let dir = host.fresh("daemon");
        host.run(&format!("mkdir {}", dir.display()))?;
        let holder = options.kept.then(|| start_holder(host, &dir)).transpose()?;
        Ok(Self {
            host: Arc::clone(host),
            options,
            dir,
            _holder: holder.map(Arc::new),
        })
    }

    /// The socket of the VM `name`.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.sock"))
    }

    /// Starts a daemon and waits until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self) -> Result<Daemon> {
        let log = self.host.fresh("daemon-log");
        let argv = command(&self.host.files().daemon, &self.dir, &self.options);
        let program = self.host.start("the daemon", argv, &log, || ())?;
        let mut daemon = Daemon {
            program,
            place: self.clone(),
            log,
            done: false,
        };
        until("the daemon to listen", PROMPT, || {
            if let Some(ended) = daemon.program.ended()? {
                bail!("the daemon ended ({ended:?}): {}", daemon.log());
            }
            Ok(daemon.stats().ok())
        })?;
        Ok(daemon)
    }
}

/// A running daemon. Dropped without [`Daemon::stop`], as by a test that fails,
/// it is killed and the end of its log is shown.
pub struct Daemon {
    program: Program,
    place: DaemonPlace,
    log: PathBuf,
    done: bool,
}

impl Daemon {
    /// Starts a daemon on this machine and waits until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(assets: &Assets, options: &DaemonOptions) -> Result<Self> {
        DaemonPlace::new(&Host::here(assets)?, options.clone())?.start()
    }

    /// The socket of the VM `name`.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.place.socket(name)
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        self.place.host.read(&self.log).unwrap_or_default()
    }

    /// The daemon's process id, where it runs.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Statistics, as the control socket gives them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn stats(&self) -> Result<Stats> {
        let socket = self.place.dir.join("control.sock");
        let response = self.place.host.http(&socket, "GET", "/v1/stats", "")?;
        if response.status != 200 {
            bail!("GET /v1/stats: {response:?}");
        }
        Stats::parse(&response.body)
    }

    /// Metrics in the text format.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self) -> Result<String> {
        let socket = self.place.dir.join("control.sock");
        let response = self.place.host.http(&socket, "GET", "/metrics", "")?;
        if response.status != 200 {
            bail!("GET /metrics: {response:?}");
        }
        Ok(response.body)
    }

    /// Address and port that metrics are on, as it has logged them.
    ///
    /// # Errors
    /// It does not listen.
    pub fn listens(&self) -> Result<String> {
        let log = self.log();
        let found = log.split("metrics are at http://").nth(1);
        let found = found.and_then(|rest| rest.split('/').next());
        Ok(found.context("the daemon has no port")?.to_string())
    }

    /// Sets what the VM `name` may use, in bytes.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub fn set_quota(&self, name: &str, bytes: u64) -> Result<()> {
        let body = serde_json::json!({ "quota": bytes });
        self.ask("PATCH", &format!("/v1/vms/{name}"), &body)
            .map(|_| ())
    }

    /// Asks its control socket for something, with a body unless that is null. Gives what is answered;
    /// null for nothing.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let socket = self.place.dir.join("control.sock");
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let response = self.place.host.http(&socket, method, path, &body)?;
        if !(200..300).contains(&response.status) {
            bail!("{method} {path}: {response:?}");
        }
        if response.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&response.body)
            .with_context(|| format!("{method} {path}: the answer is no JSON"))
    }

    /// Halts it (SIGSTOP): it keeps its connections and answers nothing.
    ///
    /// # Errors
    /// It is gone, or runs in a guest.
    pub fn halt(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Daemon::halt`].
    ///
    /// # Errors
    /// It is gone, or runs in a guest.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.context("the daemon's pid is none")?;
        kill_process(pid, signal).context("cannot signal the daemon")
    }

    /// Ends it at once (SIGKILL), as a crash would.
    ///
    /// # Errors
    /// It is lost.
    pub fn kill(mut self) -> Result<()> {
        self.program.kill()?;
        self.done = true;
        Ok(())
    }

    /// Asks it to end (SIGTERM); it must do so with exit code 0.
    ///
    /// # Errors
    /// It does not.
    pub fn stop(mut self) -> Result<()> {
        let ended = self.program.terminate(PROMPT)?;
        let log = self.log();
        if ended.code != Some(0) {
            bail!("the daemon ended with {ended:?}: {log}");
        }
        if log.contains("panicked") {
            bail!("the daemon panicked: {log}");
        }
        self.done = true;
        Ok(())
    }
}

/// The holder's socket.
fn holder_socket(dir: &Path) -> PathBuf {
    dir.join("holder.sock")
}

/// Starts a holder and waits until it listens.
fn start_holder(host: &Host, dir: &Path) -> Result<Program> {
    let socket = holder_socket(dir).display().to_string();
    let log = host.fresh("holder-log");
    let program = host.files().daemon.display().to_string();
    let argv = vec![program, "--holder".to_string(), socket.clone()];
    let mut holder = host.start("the holder", argv, &log, || ())?;
    until("the holder to listen", PROMPT, || {
        if let Some(ended) = holder.ended()? {
            let log = host.read(&log).unwrap_or_default();
            bail!("the holder ended ({ended:?}): {log}");
        }
        // What a small guest has, too.
        Ok(host.run(&format!("ls {socket}")).ok())
    })?;
    Ok(holder)
}

/// What starts a daemon with its sockets in `dir`.
fn command(program: &Path, dir: &Path, options: &DaemonOptions) -> Vec<String> {
    let at = |name: &str| dir.join(name).display().to_string();
    let mut argv = vec![program.display().to_string()];
    let mut add = |option: &str, value: String| argv.extend([option.to_string(), value]);
    for vm in &options.vms {
        add("--socket-path", at(&format!("{vm}.sock")));
    }
    for disk in &options.disks {
        let socket = at(&format!("{disk}.sock"));
        let size = options.swap_size;
        add(
            "--vm",
            format!("socket={socket},personality=blk,size={size}"),
        );
    }
    add("--control-socket", at("control.sock"));
    add("--quota", options.quota.to_string());
    add("--swap-size", options.swap_size.to_string());
    add("--memory-limit", options.memory_limit.to_string());
    add("--request-queues", options.request_queues.to_string());
    add("--grace", options.grace.to_string());
    if options.kept {
        add("--keep-in", holder_socket(dir).display().to_string());
    }
    if let Some(size) = options.spill {
        add("--spill", format!("{},size={size}", at("spill")));
    }
    if let Some(url) = &options.remote {
        add("--remote", url.clone());
    }
    add("--log-level", "info".to_string());
    if options.listens {
        add("--metrics-listen", "127.0.0.1:0".to_string());
    }
    argv
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

/// Statistics of a daemon or a VMM.
#[derive(Clone, Debug)]
pub struct Stats {
    value: Value,
}

impl Stats {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let value = serde_json::from_str(text).context("the statistics are no JSON")?;
        Ok(Self { value })
    }

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
