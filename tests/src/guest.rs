// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest: a stock kernel with the agent as its first program.

use crate::assets::Assets;
use crate::console;
use crate::job::Job;
use crate::link::Link;
use crate::link::lock;
use crate::process::Process;
use crate::qemu;
use crate::qmp::Qmp;
use crate::wait::until;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::json;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;
use tmem_agent::protocol::Answer;
use tmem_agent::protocol::Command;
use tmem_agent::protocol::Workload;

/// From QEMU's start to the agent's: 5 s alone on an idle machine.
const BOOT: Duration = Duration::from_secs(180);

/// For a short program in the guest, swapoff with much to bring back included.
const RUN: Duration = Duration::from_secs(240);

/// For a device to be unplugged or to show up.
const PLUG: Duration = Duration::from_secs(60);

/// For QEMU to end once the guest has switched off.
const OFF: Duration = Duration::from_secs(60);

/// Where the module counts, under debugfs.
const COUNTERS: &str = "/sys/kernel/debug/tmem";

/// What a guest is like.
#[derive(Clone, Debug)]
pub struct GuestOptions {
    /// For messages.
    pub name: String,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Virtqueues of the device, the event queue included.
    pub virtqueues: u32,
    /// The daemon's socket, for a device that is there from the start.
    pub device: Option<PathBuf>,
    /// Whether it is a whole Debian system, with systemd, not just the agent.
    pub debian: bool,
}

impl Default for GuestOptions {
    fn default() -> Self {
        Self {
            name: "guest".into(),
            memory_mib: 160,
            cpus: 2,
            virtqueues: 3,
            device: None,
            debian: false,
        }
    }
}

/// A running guest. Dropped without [`Guest::power_off`] or [`Guest::kill`], as
/// by a test that fails, it is killed, its console's last lines are shown and
/// the whole log is kept.
pub struct Guest {
    options: GuestOptions,
    process: Process,
    link: Arc<Link>,
    qmp: Mutex<Qmp>,
    plugs: u32,
    backend: String,
    logs: PathBuf,
    dir: TempDir,
    done: bool,
}

impl Guest {
    /// Starts a guest and waits until its agent listens.
    ///
    /// # Errors
    /// QEMU does not start or the guest does not boot; the error carries the
    /// console's last lines.
    pub fn boot(assets: &Assets, options: GuestOptions) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("tmem-guest-")
            .tempdir()
            .context("cannot make a directory for a guest")?;
        let at = |name: &str| dir.path().join(name);
        let (monitor, agent) = (listen(&at("qmp"))?, listen(&at("agent"))?);
        let console = at("console.log");
        let initramfs = if options.debian {
            let debian = assets.debian.as_deref();
            debian.context("no Debian guest was made")?
        } else {
            &assets.initramfs
        };
        let machine = qemu::Machine {
            initramfs,
            memory_mib: options.memory_mib,
            cpus: options.cpus,
            monitor: &at("qmp"),
            agent: &at("agent"),
            console: &console,
            device: options
                .device
                .as_deref()
                .map(|socket| (socket, qemu::device(options.virtqueues))),
        };
        let log = std::fs::File::create(at("qemu.log")).context("cannot make QEMU's log")?;
        let mut command = qemu::command(assets, &machine);
        command.stdin(std::process::Stdio::null());
        command.stdout(log.try_clone().context("cannot share QEMU's log")?);
        command.stderr(log);
        let mut process = Process::start("QEMU", &mut command)?;
        let mut accept = |what: &str, socket: &UnixListener| -> Result<UnixStream> {
            until(what, OFF, || {
                if let Some(status) = process.ended()? {
                    let text = std::fs::read_to_string(at("qemu.log")).unwrap_or_default();
                    bail!("QEMU ended ({status}): {}", console::tail(&text, 5));
                }
                match socket.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false)?;
                        Ok(Some(stream))
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
                    Err(error) => Err(error).context("cannot accept QEMU's connection"),
                }
            })
        };
        let agent = accept("QEMU's agent port", &agent)?;
        let monitor = accept("QEMU's monitor", &monitor)?;
        let guest = Self {
            link: Arc::new(Link::new(agent)?),
            qmp: Mutex::new(Qmp::new(monitor)?),
            options,
            process,
            plugs: 0,
            backend: qemu::DEVICE.into(),
            logs: assets.logs.clone(),
            dir,
            done: false,
        };
        guest
            .link
            .ready(BOOT)
            .with_context(|| format!("{} did not boot", guest.options.name))?;
        Ok(guest)
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What the kernel has said so far.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the kernel has said `text`.
    ///
    /// # Errors
    /// It does not within `limit`.
    pub fn says(&self, text: &str, limit: Duration) -> Result<()> {
        let what = format!("{text:?} on the console of {}", self.options.name);
        until(&what, limit, || {
            Ok(self.console().contains(text).then_some(()))
        })
    }

    /// Runs a program; gives back its exit code and output.
    ///
    /// # Errors
    /// It cannot be started, a signal ended it, or it takes too long.
    pub fn try_run(&self, line: &str) -> Result<(i32, String)> {
        let argv = line.split_whitespace().map(str::to_string).collect();
        let replies = self.link.send(Command::Run { argv })?;
        match replies.next(line, RUN)? {
            Answer::Ran {
                code: Some(code),
                output,
            } => Ok((code, output)),
            other => bail!("{line}: {other:?}"),
        }
    }

    /// Runs a program that must succeed; gives back its output.
    ///
    /// # Errors
    /// As [`Guest::try_run`], or its exit code is not 0.
    pub fn run(&self, line: &str) -> Result<String> {
        match self.try_run(line)? {
            (0, output) => Ok(output),
            (code, output) => bail!("{line} failed with code {code}: {}", output.trim()),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, path: &str) -> Result<String> {
        let replies = self.link.send(Command::Read { path: path.into() })?;
        match replies.next(path, RUN)? {
            Answer::Text(text) => Ok(text),
            other => bail!("{path}: {other:?}"),
        }
    }

    /// Writes a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let replies = self.link.send(Command::Write {
            path: path.into(),
            text: text.into(),
        })?;
        replies.next(path, RUN).map(|_| ())
    }

    /// One of the module's counters.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let text = self.read(&format!("{COUNTERS}/{name}"))?;
        text.trim()
            .parse()
            .with_context(|| format!("the counter {name} is {text:?}"))
    }

    /// A line of /proc/meminfo, in KiB.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn meminfo(&self, name: &str) -> Result<u64> {
        self.read("/proc/meminfo")?
            .lines()
            .find_map(|line| {
                let value = line.strip_prefix(name)?.strip_prefix(':')?;
                value.trim().trim_end_matches(" kB").parse().ok()
            })
            .with_context(|| format!("/proc/meminfo has no {name}"))
    }

    /// Loads the module. It finds the device under the id that QEMU knows.
    ///
    /// # Errors
    /// modprobe fails.
    pub fn load_module(&self) -> Result<()> {
        let id = qemu::TEST_DEVICE_ID;
        self.run(&format!("modprobe virtio_tmem test_device_id={id}"))
            .map(|_| ())
    }

    /// Waits for the swap disk to have a size.
    ///
    /// # Errors
    /// It does not appear.
    pub fn disk_appears(&self) -> Result<()> {
        until("/dev/tmem0 with a size", PLUG, || {
            // Neither file is there before the driver has found the device.
            let size = self.read("/sys/block/tmem0/size").unwrap_or_default();
            Ok((size.trim().parse::<u64>().unwrap_or(0) > 0).then_some(()))
        })
    }

    /// Loads the module and swaps on its disk.
    ///
    /// # Errors
    /// One of the steps fails.
    pub fn swap_on(&self) -> Result<()> {
        self.load_module()?;
        self.disk_appears()?;
        self.run("mkswap /dev/tmem0")?;
        self.run("swapon /dev/tmem0").map(|_| ())
    }

    /// Starts a program that fills `mib` MiB. When memory runs out, it is what
    /// the kernel kills.
    ///
    /// # Errors
    /// The guest has ended.
    pub fn workload(&self, mib: u64, seed: u64) -> Result<Job> {
        self.start(mib, seed, 1000)
    }

    /// Starts a program that fills `mib` MiB, and that the kernel kills after
    /// those of [`Guest::workload`].
    ///
    /// # Errors
    /// The guest has ended.
    pub fn precious_workload(&self, mib: u64, seed: u64) -> Result<Job> {
        self.start(mib, seed, 0)
    }

    fn start(&self, mib: u64, seed: u64, oom_score_adj: i32) -> Result<Job> {
        let workload = Workload {
            mib,
            seed,
            oom_score_adj,
        };
        Job::start(Arc::clone(&self.link), workload)
    }

    /// Unplugs the device: the guest's driver is removed, QEMU disconnects
    /// from the daemon.
    ///
    /// # Errors
    /// QEMU refuses, or the guest does not let go of it.
    pub fn unplug(&self) -> Result<()> {
        let mut qmp = lock(&self.qmp);
        qmp.execute("device_del", json!({ "id": qemu::DEVICE }))?;
        qmp.event("DEVICE_DELETED", qemu::DEVICE, PLUG)?;
        // The chardev stays busy until the device is wholly gone.
        until("the chardev to be free", PLUG, || {
            Ok(qmp
                .execute("chardev-remove", json!({ "id": self.backend }))
                .ok())
        })?;
        Ok(())
    }

    /// Plugs in a device that the daemon serves at `socket`.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn plug(&mut self, socket: &Path) -> Result<()> {
        self.plugs += 1;
        self.backend = format!("backend{}", self.plugs);
        let mut device = qemu::device(self.options.virtqueues);
        if let Some(device) = device.as_object_mut() {
            device.insert("chardev".into(), self.backend.clone().into());
        }
        let qmp = self.qmp.get_mut().unwrap_or_else(|e| e.into_inner());
        qmp.execute(
            "chardev-add",
            json!({
                "id": self.backend,
                "backend": { "type": "socket", "data": {
                    "addr": { "type": "unix", "data": { "path": socket } },
                    "server": false,
                } },
            }),
        )?;
        qmp.execute("device_add", device)?;
        Ok(())
    }

    /// Fails if the kernel has said anything that it must not say.
    ///
    /// # Errors
    /// It has.
    pub fn healthy(&self) -> Result<()> {
        let log = self.console();
        let trouble = console::trouble(&log);
        if !trouble.is_empty() {
            bail!(
                "the kernel of {} reports:\n{}",
                self.options.name,
                trouble.join("\n")
            );
        }
        Ok(())
    }

    /// Switches off, and checks that the kernel stayed healthy.
    ///
    /// # Errors
    /// It does not switch off, or had reported a bug.
    pub fn power_off(mut self) -> Result<()> {
        self.healthy()?;
        self.link.send(Command::PowerOff)?;
        self.process.wait(OFF)?;
        self.healthy()?;
        self.done = true;
        Ok(())
    }

    /// Ends QEMU at once, as a crash of it would; checks that the kernel was
    /// healthy until then.
    ///
    /// # Errors
    /// It had reported a bug.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.healthy()?;
        self.done = true;
        Ok(())
    }

    fn keep_log(&self) {
        let log = self.console();
        let name = &self.options.name;
        let kept = self.logs.join(format!("{name}-{}.log", self.pid()));
        let place =
            match std::fs::create_dir_all(&self.logs).and_then(|()| std::fs::write(&kept, &log)) {
                Ok(()) => kept.display().to_string(),
                Err(error) => format!("not kept: {error}"),
            };
        eprintln!(
            "---- last lines on the console of {name} (all of it: {place})\n{}\n----",
            console::tail(&log, 60)
        );
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if !self.done {
            self.keep_log();
        }
    }
}

fn listen(path: &Path) -> Result<UnixListener> {
    let socket =
        UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    socket
        .set_nonblocking(true)
        .context("cannot make a socket non-blocking")?;
    Ok(socket)
}
