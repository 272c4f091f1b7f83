// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest in our own VMM.

use crate::assets::Assets;
use crate::daemon::Stats;
use crate::guest::Console;
use crate::guest::Guest;
use crate::guest::Machine;
use crate::guest::OFF;
use crate::host::Host;
use crate::link::Link;
use crate::program::Program;
use crate::wait::until;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::json;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tmem_agent::protocol::Command;

/// For the VMM to connect to the agent's socket.
const CONNECTS: Duration = Duration::from_secs(60);

/// Serial ports of an outer guest that its guest's console and agent are
/// connected to.
pub(crate) const OUTER_CONSOLE: &str = "/dev/ttyS3";
pub(crate) const OUTER_AGENT: &str = "/dev/ttyS2";

/// The kernel's command line: the first file system stays in memory, so that a
/// swapping guest swaps its programs' memory only. What follows the first line
/// is for an emulated CPU, where each spares seconds.
pub(crate) const CMDLINE: &str = "loglevel=7 panic=-1 oops=panic rootfstype=ramfs \
     mitigations=off no_timer_check tsc=reliable lpj=1000000 nokaslr cryptomgr.notests";

/// What a guest of the VMM is like.
#[derive(Clone, Debug)]
pub struct VmOptions {
    /// For messages.
    pub name: String,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Whether the kernel is the packed one, a bzImage, with the initrd that
    /// lies beside it.
    pub packed: bool,
    /// Words that come last on the kernel's command line.
    pub cmdline: String,
    /// `--tmem`.
    pub tmem: Option<String>,
    /// `--disk`.
    pub disks: Vec<String>,
    /// `--net`.
    pub nets: Vec<String>,
    /// More words of the VMM's command line.
    pub more: Vec<String>,
}

impl Default for VmOptions {
    fn default() -> Self {
        Self {
            name: "inner".into(),
            memory_mib: 144,
            cpus: 1,
            packed: false,
            cmdline: String::new(),
            tmem: None,
            disks: Vec::new(),
            nets: Vec::new(),
            more: Vec::new(),
        }
    }
}

/// Our own VMM, as a guest's machine.
pub struct Vmm {
    program: Program,
    api: PathBuf,
    log: PathBuf,
    host: Arc<Host>,
}

impl Machine for Vmm {
    fn pid(&self) -> u32 {
        self.program.pid()
    }

    fn load(&self) -> Vec<String> {
        ["virtio_mmio", "virtio_tmem"]
            .map(|module| format!("modprobe {module}"))
            .into()
    }

    fn is_off(&mut self, limit: Duration) -> Result<()> {
        self.ends_with(0, limit)
    }

    fn kill(&mut self) -> Result<()> {
        self.program.kill().map(|_| ())
    }

    fn log(&self) -> String {
        self.host.read(&self.log).unwrap_or_default()
    }
}

impl Vmm {
    fn ends_with(&mut self, code: i32, limit: Duration) -> Result<()> {
        let ended = self.program.wait(limit)?;
        let log = self.log();
        if ended.code != Some(code) {
            bail!("the VMM should end with code {code}, but: {ended:?}: {log}");
        }
        if log.contains("panicked") {
            bail!("the VMM panicked: {log}");
        }
        Ok(())
    }
}

impl Guest<Vmm> {
    /// Starts a guest in the VMM on `host` and waits until its agent listens.
    /// An outer guest can have one at a time.
    ///
    /// # Errors
    /// The VMM does not start or the guest does not boot.
    pub fn launch(assets: &Assets, host: &Arc<Host>, options: &VmOptions) -> Result<Self> {
        let api = host.fresh("api");
        let log = host.fresh("vmm-log");
        let start = |serial: [String; 2], ended: Box<dyn FnOnce() + Send>| {
            let argv = command(host, &api, &serial, options);
            host.start("the VMM", argv, &log, ended)
        };
        let (program, link, console) = if let Some((link, console)) = host.inner() {
            link.renew();
            // What other guests said before is not this one's.
            let from = std::fs::metadata(console).map_or(0, |data| data.len());
            let serial = [OUTER_CONSOLE, OUTER_AGENT].map(|port| format!("path={port}"));
            let ended = Arc::clone(link);
            let program = start(serial, Box::new(move || ended.end()))?;
            let file = console.to_path_buf();
            (program, Arc::clone(link), Console { file, from })
        } else {
            let (file, port) = (host.fresh("console"), host.fresh("agent"));
            let listener = UnixListener::bind(&port).context("cannot make the agent's socket")?;
            listener.set_nonblocking(true)?;
            let serial = [
                format!("file={}", file.display()),
                format!("socket={}", port.display()),
            ];
            let mut program = start(serial, Box::new(|| ()))?;
            let stream = until("the VMM's connection", CONNECTS, || {
                if let Some(ended) = program.ended()? {
                    let log = host.read(&log).unwrap_or_default();
                    bail!("the VMM ended ({ended:?}): {log}");
                }
                Ok(listener.accept().ok())
            })?
            .0;
            stream.set_nonblocking(false)?;
            let link = Arc::new(Link::new(stream)?);
            (program, link, Console { file, from: 0 })
        };
        let guest = Self {
            name: options.name.clone(),
            link,
            console,
            logs: assets.logs.clone(),
            done: false,
            machine: Vmm {
                program,
                api,
                log,
                host: Arc::clone(host),
            },
        };
        guest.booted()
    }

    /// What the VMM has logged.
    pub fn vmm_log(&self) -> String {
        self.machine.log()
    }

    /// Makes a request to the VMM's API that must succeed; gives back what is
    /// answered.
    ///
    /// # Errors
    /// The VMM refuses, or does not answer.
    pub fn api(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let machine = &self.machine;
        let response = machine.host.http(&machine.api, method, path, body)?;
        if !(200..300).contains(&response.status) {
            bail!("{method} {path}: {response:?}");
        }
        Ok(response.body)
    }

    /// The VMM's counters.
    ///
    /// # Errors
    /// As [`Guest::api`].
    pub fn stats(&self) -> Result<Stats> {
        Stats::parse(&self.api("GET", "/v1/stats", "")?)
    }

    /// Stops the virtual CPUs.
    ///
    /// # Errors
    /// As [`Guest::api`].
    pub fn pause(&self) -> Result<()> {
        self.api("PUT", "/v1/vm/pause", "").map(|_| ())
    }

    /// Lets the virtual CPUs go on.
    ///
    /// # Errors
    /// As [`Guest::api`].
    pub fn resume(&self) -> Result<()> {
        self.api("PUT", "/v1/vm/resume", "").map(|_| ())
    }

    /// Sets the quota of the store in the VMM, in bytes.
    ///
    /// # Errors
    /// As [`Guest::api`].
    pub fn set_quota(&self, bytes: u64) -> Result<()> {
        let body = json!({ "quota": bytes }).to_string();
        self.api("PATCH", "/v1/vms/guest", &body).map(|_| ())
    }

    /// Has the VMM ask the guest to switch off, or end without asking; either
    /// way it must end well.
    ///
    /// # Errors
    /// As [`Guest::api`], or the VMM does not end.
    pub fn shut_down(mut self, force: bool) -> Result<()> {
        let body = json!({ "force": force }).to_string();
        self.api("PUT", "/v1/vm/shutdown", &body)?;
        self.machine.ends_with(0, OFF)?;
        self.ended_healthy()
    }

    /// Waits until the guest cannot go on, and the VMM has ended with code 4; gives back
    /// what the VMM said.
    ///
    /// # Errors
    /// It does not end so within `limit`.
    pub fn crashes(mut self, limit: Duration) -> Result<String> {
        self.machine.ends_with(4, limit)?;
        self.done = true;
        Ok(self.machine.log())
    }

    /// Resets the machine from within; the VMM must end with code 3.
    ///
    /// # Errors
    /// It does not.
    pub fn reset(mut self) -> Result<()> {
        self.healthy()?;
        self.link.send(Command::Reset)?;
        self.machine.ends_with(3, OFF)?;
        self.ended_healthy()
    }
}

/// What starts the VMM.
fn command(host: &Host, api: &Path, serial: &[String; 2], options: &VmOptions) -> Vec<String> {
    let files = host.files();
    let show = |path: &Path| path.display().to_string();
    let mut argv = vec![show(&files.vmm)];
    let mut add = |option: &str, value: String| argv.extend([option.to_string(), value]);
    if options.packed {
        add("--kernel", show(&files.vmlinuz));
    } else {
        add("--kernel", show(&files.vmlinux));
        add("--initrd", show(&files.initramfs));
    }
    add(
        "--cmdline",
        format!("console=ttyS0 {CMDLINE} {}", options.cmdline),
    );
    add("--memory", format!("{}M", options.memory_mib));
    add("--cpus", options.cpus.to_string());
    add("--api-socket", show(api));
    for serial in serial {
        add("--serial", serial.clone());
    }
    for disk in &options.disks {
        add("--disk", disk.clone());
    }
    for net in &options.nets {
        add("--net", net.clone());
    }
    if let Some(tmem) = &options.tmem {
        add("--tmem", tmem.clone());
    }
    argv.extend(options.more.iter().cloned());
    argv
}
