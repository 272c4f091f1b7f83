// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The machine that the daemon and the VMM run on: this one, or an outer guest
//! in which /dev/kvm is real.

use crate::assets::Assets;
use crate::drive::Drive;
use crate::guest::DidNotBoot;
use crate::guest::Guest;
use crate::guest::GuestOptions;
use crate::link::Link;
use crate::program::Program;
use crate::qemu;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;
use tmem_agent::first_line;
use tmem_agent::http;
use tmem_agent::http::Response;

/// Set to anything, has the VMM run in an outer guest even where it could run
/// on this machine.
const NESTED: &str = "TMEM_E2E_NESTED";

/// An outer guest's files.
const OUTER_DIR: &str = "/run/tmem";
const OUTER_BIN: &str = "/usr/bin";
const OUTER_BOOT: &str = "/boot";

/// What an outer guest's disk is called there.
const OUTER_DISK: &str = "/dev/vda";

/// Machines that something is tried on. QEMU's emulation of SVM breaks the outer
/// kernel now and then (it reads its own per-CPU data through a stale
/// translation), which says nothing about what runs in it.
const MACHINES: u32 = 4;

/// A machine to run the daemon and the VMM on. An outer guest that is dropped
/// without [`Host::power_off`] is killed as every [`Guest`] is.
pub struct Host {
    place: Place,
    files: Files,
    /// For files and sockets, there.
    dir: PathBuf,
    names: AtomicU32,
}

enum Place {
    Here { _dir: TempDir },
    Outer(Box<Guest>),
}

/// What is started, by its path there.
#[derive(Clone, Debug)]
pub struct Files {
    /// The daemon's program.
    pub daemon: PathBuf,
    /// The VMM's program.
    pub vmm: PathBuf,
    /// The kernel, unpacked: an ELF file.
    pub vmlinux: PathBuf,
    /// The kernel as Debian packs it; its initrd is where Debian would put it.
    pub vmlinuz: PathBuf,
    /// The initramfs of a small guest.
    pub initramfs: PathBuf,
    /// The disk that [`HostOptions`] asked for.
    pub disk: Option<PathBuf>,
}

/// What a machine for the VMM must be like.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// For messages.
    pub name: String,
    /// RAM of an outer guest in MiB.
    pub memory_mib: u64,
    /// A disk image of this machine to be had there.
    pub disk: Option<PathBuf>,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            name: "outer".into(),
            memory_mib: 2048,
            disk: None,
        }
    }
}

impl Host {
    /// This machine, to run the daemon on.
    ///
    /// # Errors
    /// No directory can be made for files and sockets.
    pub fn here(assets: &Assets) -> Result<Arc<Self>> {
        let files = Files {
            daemon: assets.daemon.clone(),
            vmm: PathBuf::new(),
            vmlinux: assets.kernel.clone(),
            vmlinuz: PathBuf::new(),
            initramfs: assets.initramfs.clone(),
            disk: None,
        };
        Self::with_files(files)
    }

    /// Whether this machine's KVM can run stock kernels.
    pub fn is_virtualised() -> bool {
        qemu::has_kvm()
    }

    /// A machine whose KVM can run stock kernels: this one, if it has such a
    /// KVM, else an outer guest.
    ///
    /// # Errors
    /// The outer guest does not boot, or has no KVM.
    pub fn with_kvm(assets: &Assets, options: HostOptions) -> Result<Arc<Self>> {
        if qemu::has_kvm() && std::env::var_os(NESTED).is_none() {
            let made = assets.vmm()?;
            return Self::with_files(Files {
                daemon: assets.daemon.clone(),
                vmm: made.program.clone(),
                vmlinux: assets.kernel.clone(),
                vmlinuz: made.vmlinuz.clone(),
                initramfs: assets.initramfs.clone(),
                disk: options.disk,
            });
        }
        let disk = options.disk.is_some();
        let outer = Guest::boot(
            assets,
            GuestOptions {
                name: options.name,
                memory_mib: options.memory_mib,
                drives: options.disk.map(Drive::new).into_iter().collect(),
                hypervisor: true,
                // With two, QEMU's emulation of SVM breaks guests of two CPUs often.
                cpus: 1,
                ..GuestOptions::default()
            },
        )?;
        for module in ["kvm_amd", "kvm_intel"] {
            // The one that is not for this CPU does not load.
            outer.try_run(&format!("modprobe {module}"))?;
        }
        outer
            .run("busybox test -c /dev/kvm")
            .context("the outer guest has no /dev/kvm")?;
        if disk {
            outer.run("modprobe virtio_blk")?;
        }
        outer.run(&format!("mkdir {OUTER_DIR}"))?;
        let boot = Path::new(OUTER_BOOT);
        Ok(Arc::new(Self {
            place: Place::Outer(Box::new(outer)),
            files: Files {
                daemon: Path::new(OUTER_BIN).join("vhost-user-tmem"),
                vmm: Path::new(OUTER_BIN).join("tmem-vmm"),
                vmlinux: boot.join("vmlinux"),
                vmlinuz: boot.join("vmlinuz"),
                initramfs: boot.join("initrd.img"),
                disk: disk.then(|| OUTER_DISK.into()),
            },
            dir: OUTER_DIR.into(),
            names: AtomicU32::new(0),
        }))
    }

    /// Does `work` on a machine as [`Host::with_kvm`] gives it, and switches it
    /// off; does it again on another one if the machine itself broke, or a guest
    /// on an emulated one never came to run anything of ours.
    ///
    /// # Errors
    /// Those of `work`, or the machines break one after the other.
    pub fn used_by<T>(
        assets: &Assets,
        options: &HostOptions,
        work: impl Fn(&Arc<Self>) -> Result<T>,
    ) -> Result<T> {
        for left in (0..MACHINES).rev() {
            let host = Self::with_kvm(assets, options.clone())?;
            let outcome = work(&host);
            let is_hung = host.outer().is_some()
                && matches!(&outcome, Err(error) if error.is::<DidNotBoot>());
            if !host.is_broken() && !is_hung {
                let outcome = outcome?;
                host.power_off()?;
                return Ok(outcome);
            }
            let error = outcome.err();
            eprintln!(
                "the emulated machine {} broke ({error:?}); {left} tries left",
                options.name
            );
        }
        bail!("{MACHINES} emulated machines broke one after the other");
    }

    fn with_files(files: Files) -> Result<Arc<Self>> {
        let dir = tempfile::Builder::new()
            .prefix("tmem-host-")
            .tempdir()
            .context("cannot make a directory for files and sockets")?;
        Ok(Arc::new(Self {
            files,
            dir: dir.path().to_path_buf(),
            place: Place::Here { _dir: dir },
            names: AtomicU32::new(0),
        }))
    }

    /// What is started there.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The outer guest, if it is one.
    pub fn outer(&self) -> Option<&Guest> {
        match &self.place {
            Place::Here { .. } => None,
            Place::Outer(guest) => Some(guest),
        }
    }

    /// A path for a new file or socket, whose name begins with `name`.
    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{name}-{number}"))
    }

    /// Starts a program with all its output in the new file `log`; `ended` is
    /// called at its end if it does not run here.
    pub(crate) fn start(
        &self,
        name: &str,
        argv: Vec<String>,
        log: &Path,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<Program> {
        match &self.place {
            Place::Here { .. } => {
                let (program, arguments) = argv.split_first().context("no program is named")?;
                let log = File::create(log).context("cannot make a log")?;
                let mut command = Command::new(program);
                command
                    .args(arguments)
                    .stdin(Stdio::null())
                    .stdout(log.try_clone().context("cannot share a log")?)
                    .stderr(log);
                Program::here(name, &mut command)
            }
            Place::Outer(outer) => {
                let log = log.display().to_string();
                Program::outer(name, outer.link(), argv, log, ended)
            }
        }
    }

    /// Starts a program in the background; its output goes nowhere.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, argv: &[&str]) -> Result<Program> {
        let words = argv.iter().map(|word| (*word).to_string()).collect();
        self.start(&argv.join(" "), words, Path::new("/dev/null"), || ())
    }

    /// Runs a program that must succeed; gives back its output.
    ///
    /// # Errors
    /// It cannot be started, or its exit code is not 0.
    pub fn run(&self, line: &str) -> Result<String> {
        match &self.place {
            Place::Here { .. } => {
                let mut words = line.split_whitespace();
                let output = Command::new(words.next().context("no program is named")?)
                    .args(words)
                    .stdin(Stdio::null())
                    .output()
                    .with_context(|| format!("cannot start {line}"))?;
                let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
                if !output.status.success() {
                    text.push_str(&String::from_utf8_lossy(&output.stderr));
                    bail!("{line} failed ({}): {}", output.status, text.trim());
                }
                Ok(text)
            }
            Place::Outer(outer) => outer.run(line),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, path: &Path) -> Result<String> {
        match &self.place {
            Place::Here { .. } => {
                let bytes = std::fs::read(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Place::Outer(outer) => outer.read(&path.display().to_string()),
        }
    }

    /// Makes a request to the server at the unix socket `socket`.
    ///
    /// # Errors
    /// Nobody listens there, or no answer comes.
    pub fn http(&self, socket: &Path, method: &str, path: &str, body: &str) -> Result<Response> {
        match &self.place {
            Place::Here { .. } => http::request(socket, method, path, body),
            Place::Outer(outer) => outer.http(socket, method, path, body),
        }
    }

    /// The line to the agent of a guest in the outer guest, if that is where
    /// guests run, and the file of this machine that its console goes to.
    pub(crate) fn inner(&self) -> Option<(&Arc<Link>, &Path)> {
        self.outer()?.inner()
    }

    /// The time from the VMM's start to the first line of the unpacked kernel,
    /// on that machine's clock.
    ///
    /// # Errors
    /// The VMM does not start, or the kernel says nothing.
    pub fn time_to_first_line(&self) -> Result<Duration> {
        let Files { vmm, vmlinux, .. } = &self.files;
        match &self.place {
            Place::Here { .. } => first_line::time(vmm, vmlinux),
            Place::Outer(outer) => outer.time_to_first_line(vmm, vmlinux),
        }
    }

    /// Whether the kernel of an outer guest has broken. It runs nothing of ours
    /// in the kernel: what broke is the emulated processor.
    pub fn is_broken(&self) -> bool {
        self.outer().is_some_and(|outer| outer.healthy().is_err())
    }

    /// Switches off an outer guest, and checks that its kernel stayed healthy.
    ///
    /// # Errors
    /// A guest or a daemon of it is still in use, it does not switch off, or
    /// had reported a bug.
    pub fn power_off(self: Arc<Self>) -> Result<()> {
        let host = Arc::into_inner(self).context("the machine is in use")?;
        match host.place {
            Place::Here { .. } => Ok(()),
            Place::Outer(outer) => outer.power_off(),
        }
    }
}
