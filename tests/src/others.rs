// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests in VMMs of others, in an outer guest. Their programs are in no package registry, so
//! the environment names them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tmem_agent::protocol::Command;

use crate::assets::Assets;
use crate::guest::{Console, Guest, Machine, OFF};
use crate::host::{Host, HostOptions};
use crate::program::Program;
use crate::vmm::{CMDLINE, OUTER_AGENT, OUTER_CONSOLE};

/// Where the program is in the outer guest.
const PROGRAM: &str = "/usr/bin/other-vmm";

/// A VMM that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherVmm {
    /// Cloud Hypervisor.
    CloudHypervisor,
    /// Firecracker.
    Firecracker,
}

impl OtherVmm {
    /// The environment variable that names its program, linked statically.
    pub fn variable(self) -> &'static str {
        match self {
            Self::CloudHypervisor => "TMEM_CLOUD_HYPERVISOR",
            Self::Firecracker => "TMEM_FIRECRACKER",
        }
    }

    /// A machine with the program as its disk.
    ///
    /// # Errors
    /// The environment names none, or there is no such file.
    pub fn machine(self, name: &str) -> Result<HostOptions> {
        let variable = self.variable();
        let program = std::env::var_os(variable)
            .with_context(|| format!("set {variable} to the path of a static program"))?;
        let program = std::fs::canonicalize(&program)
            .with_context(|| format!("{variable} names no program"))?;
        Ok(HostOptions {
            name: name.into(),
            disk: Some(program),
            ..HostOptions::default()
        })
    }

    /// Takes the program from the disk of the outer guest; gives back what it says of its
    /// version.
    ///
    /// # Errors
    /// There is no outer guest, or the program does not run there.
    pub fn install(self, host: &Host) -> Result<String> {
        let outer = host.outer().context(
            "VMMs of others run in an outer guest: set TMEM_E2E_NESTED=1 where KVM is real",
        )?;
        let disk = host.files().disk.as_deref().context("there is no disk")?;
        outer.sh(&format!(
            "busybox cp {} {PROGRAM}; busybox chmod 755 {PROGRAM}",
            disk.display()
        ))?;
        outer.run(&format!("{PROGRAM} --version"))
    }
}

/// What a guest is like.
#[derive(Clone, Debug)]
pub struct OtherOptions {
    /// For messages.
    pub name: String,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// The daemon's socket of a virtio-blk disk.
    pub disk: Option<PathBuf>,
    /// That of the native device.
    pub device: Option<PathBuf>,
}

/// Somebody else's VMM, as a guest's machine.
pub struct Other {
    vmm: OtherVmm,
    program: Program,
    log: PathBuf,
    host: Arc<Host>,
}

impl Machine for Other {
    fn pid(&self) -> u32 {
        self.program.pid()
    }

    fn load(&self) -> Vec<String> {
        vec!["modprobe virtio_tmem".into()]
    }

    fn is_off(&mut self, limit: Duration) -> Result<()> {
        let ended = self.program.wait(limit)?;
        if ended.code != Some(0) {
            bail!("{:?} ended with {ended:?}: {}", self.vmm, self.log());
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.program.kill().map(|_| ())
    }

    fn log(&self) -> String {
        self.host.read(&self.log).unwrap_or_default()
    }
}

impl Guest<Other> {
    /// Starts a guest in the VMM on `host`, where it was installed, and waits until its agent
    /// listens. There can be one at a time.
    ///
    /// # Errors
    /// The VMM does not start or the guest does not boot.
    pub fn launch_in(
        vmm: OtherVmm,
        assets: &Assets,
        host: &Arc<Host>,
        options: &OtherOptions,
    ) -> Result<Self> {
        let log = host.fresh("vmm-log");
        let words = match vmm {
            OtherVmm::CloudHypervisor => cloud_hypervisor(host, options),
            OtherVmm::Firecracker => firecracker(host, options)?,
        };
        let (link, console) = host.inner().context("there is no outer guest")?;
        link.renew();
        let from = std::fs::metadata(console).map_or(0, |data| data.len());
        let ended = Arc::clone(link);
        // The guest's serial port is the program's terminal, and that is the agent's line.
        let script = format!("exec \"$@\" <{OUTER_AGENT} >{OUTER_AGENT}");
        let mut argv = ["sh", "-c", &script, PROGRAM].map(str::to_string).to_vec();
        argv.extend(words);
        let program = host.start("the VMM", argv, &log, move || ended.end())?;
        let guest = Self {
            name: options.name.clone(),
            link: Arc::clone(link),
            console: Console {
                file: console.to_path_buf(),
                from,
            },
            logs: assets.logs.clone(),
            done: false,
            machine: Other {
                vmm,
                program,
                log,
                host: Arc::clone(host),
            },
        };
        guest.booted()
    }

    /// Switches off. Firecracker knows resets only, and ends at one.
    ///
    /// # Errors
    /// It does not end, or the kernel had reported a bug.
    pub fn ends(mut self) -> Result<()> {
        self.healthy()?;
        self.link.send(match self.machine.vmm {
            OtherVmm::CloudHypervisor => Command::PowerOff,
            OtherVmm::Firecracker => Command::Reset,
        })?;
        self.machine.is_off(OFF)?;
        self.ended_healthy()
    }
}

fn cloud_hypervisor(host: &Host, options: &OtherOptions) -> Vec<String> {
    let files = host.files();
    let show = |path: &Path| path.display().to_string();
    let mut argv = vec![PROGRAM.to_string()];
    let mut add = |option: &str, value: String| argv.extend([option.to_string(), value]);
    add("--kernel", show(&files.vmlinux));
    add("--initramfs", show(&files.initramfs));
    let cmdline = format!("console=hvc0 agent_port=/dev/ttyS0 {CMDLINE}");
    add("--cmdline", cmdline);
    let memory = options.memory_mib;
    add("--memory", format!("size={memory}M,shared=on"));
    add("--cpus", format!("boot={}", options.cpus));
    add("--serial", "tty".into());
    add("--console", format!("file={OUTER_CONSOLE}"));
    if let Some(socket) = &options.disk {
        let socket = socket.display();
        let queues = options.cpus;
        add(
            "--disk",
            format!("vhost_user=on,socket={socket},num_queues={queues},queue_size=256"),
        );
    }
    if let Some(socket) = &options.device {
        let socket = socket.display();
        let sizes = "[256,256,256]";
        add(
            "--generic-vhost-user",
            format!("device_type=60,socket={socket},queue_sizes={sizes}"),
        );
    }
    argv.push("-v".into());
    argv
}

fn firecracker(host: &Host, options: &OtherOptions) -> Result<Vec<String>> {
    let outer = host.outer().context("there is no outer guest")?;
    let files = host.files();
    let disk = options.disk.iter().map(|socket| {
        json!({
            "drive_id": "swap",
            "is_root_device": false,
            "socket": socket,
        })
    });
    // Its serial port is its only one, so the kernel's messages stay in its log.
    let config = json!({
        "boot-source": {
            "kernel_image_path": files.vmlinux,
            "initrd_path": files.initramfs,
            "boot_args": format!("reboot=k agent_port=/dev/ttyS0 {CMDLINE}"),
        },
        "drives": disk.collect::<Vec<_>>(),
        "machine-config": {
            "vcpu_count": options.cpus,
            "mem_size_mib": options.memory_mib,
        },
    });
    let file = host.fresh("config");
    outer.write(&file.display().to_string(), &config.to_string())?;
    // Its messages would come between the agent's.
    let log = host.fresh("firecracker-log");
    let (file, log) = (file.display().to_string(), log.display().to_string());
    let argv = [
        PROGRAM,
        "--no-api",
        "--config-file",
        &file,
        "--log-path",
        &log,
    ];
    Ok(argv.map(str::to_string).to_vec())
}
