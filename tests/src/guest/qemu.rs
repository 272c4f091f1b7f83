// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest in QEMU.

use crate::assets::Assets;
use crate::console;
use crate::drive::Drive;
use crate::guest::Console;
use crate::guest::DidNotBoot;
use crate::guest::Guest;
use crate::guest::Machine;
use crate::guest::OFF;
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
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

/// For a device to be unplugged.
const UNPLUG: Duration = Duration::from_secs(60);

/// For a disk to be there after its driver.
const APPEARS: Duration = Duration::from_secs(60);

/// Times that an emulated machine is started: now and then one of QEMU's CPUs
/// sleeps through an interrupt, and the kernel waits for it for ever.
const BOOTS: u32 = 3;

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
    /// Disks, in the order in which the guest finds them.
    pub drives: Vec<Drive>,
    /// Whether it uses disks: it has more drivers, file systems and `load`.
    pub storage: bool,
    /// Whether the VMM is to run in it.
    pub hypervisor: bool,
    /// Sockets of daemons that serve virtio-blk disks: `/dev/vda` and so on, after `drives`.
    /// QEMU connects anew if one of them closes.
    pub vhost_disks: Vec<PathBuf>,
    /// Which of [`Assets::stock`] it is, if the kernel is not the module's.
    pub stock: Option<&'static str>,
    /// Whether it has a balloon that free memory is reported to.
    pub balloon: bool,
    /// Most memory for translated code of an emulated CPU, in MiB, if not QEMU's own choice.
    pub translated_mib: Option<u32>,
    /// A plugin of QEMU's emulator: its file, and what it is told, with commas between. With it the
    /// CPU is emulated, whatever the host has.
    pub plugin: Option<(PathBuf, String)>,
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
            drives: Vec::new(),
            storage: false,
            hypervisor: false,
            vhost_disks: Vec::new(),
            stock: None,
            balloon: false,
            translated_mib: None,
            plugin: None,
        }
    }
}

/// QEMU, as a guest's machine.
pub struct Qemu {
    process: Process,
    qmp: Mutex<Qmp>,
    virtqueues: u32,
    plugs: u32,
    backend: String,
    /// Of a guest in the guest: the line to its agent, its console's log.
    inner: Option<(Arc<Link>, PathBuf)>,
    dir: TempDir,
}

impl Machine for Qemu {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn load(&self) -> Vec<String> {
        // The id that QEMU knows.
        let id = qemu::TEST_DEVICE_ID;
        vec![format!("modprobe virtio_tmem test_device_id={id}")]
    }

    fn is_off(&mut self, limit: Duration) -> Result<()> {
        self.process.wait(limit).map(|_| ())
    }

    fn kill(&mut self) -> Result<()> {
        self.process.kill().map(|_| ())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("qemu.log")).unwrap_or_default()
    }
}

impl Guest<Qemu> {
    /// Bytes of the host's memory that the guest has: what the file of its memory
    /// holds, as the kernel counts it.
    ///
    /// # Errors
    /// QEMU is gone.
    pub fn backed_bytes(&self) -> Result<u64> {
        /// How the kernel calls files that are in memory only.
        const MEMFD: &str = "/memfd:memory-backend";
        /// What `st_blocks` counts.
        const BLOCK: u64 = 512;
        let files = format!("/proc/{}/fd", self.pid());
        for file in std::fs::read_dir(&files).with_context(|| format!("cannot read {files}"))? {
            let path = file?.path();
            let target = std::fs::read_link(&path).unwrap_or_default();
            if target.to_string_lossy().starts_with(MEMFD) {
                return Ok(std::fs::metadata(&path)?.blocks() * BLOCK);
            }
        }
        bail!("{} has no memory file", self.name)
    }

    /// Starts a guest and waits until its agent listens.
    ///
    /// # Errors
    /// QEMU does not start or the guest does not boot, on an emulated CPU
    /// [`BOOTS`] times.
    pub fn boot(assets: &Assets, options: GuestOptions) -> Result<Self> {
        let mut left = BOOTS;
        loop {
            left -= 1;
            let name = &options.name;
            match Self::boot_once(assets, options.clone()) {
                Err(error) if error.is::<DidNotBoot>() && !qemu::has_kvm() && left > 0 => {
                    eprintln!("the emulated machine {name} hangs ({error:#}); {left} tries left");
                }
                booted => return booted,
            }
        }
    }

    fn boot_once(assets: &Assets, options: GuestOptions) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("tmem-guest-")
            .tempdir()
            .context("cannot make a directory for a guest")?;
        let at = |name: &str| dir.path().join(name);
        let (monitor, agent) = (listen(&at("qmp"))?, listen(&at("agent"))?);
        let inner = options.hypervisor.then(|| listen(&at("inner")));
        let inner = inner.transpose()?;
        let console = at("console.log");
        let stock = options.stock.map(|name| assets.stock(name)).transpose()?;
        let initramfs = match (options.debian, options.hypervisor) {
            (false, false) if options.storage => &assets.storage()?.initramfs,
            (false, false) => &assets.initramfs,
            (true, _) => {
                let debian = assets.debian.as_ref();
                debian.context("no Debian guest was made")?
            }
            (false, true) => &assets.vmm()?.outer,
        };
        let (kernel, initramfs) = match stock {
            Some(stock) => (&stock.kernel, &stock.initramfs),
            None => (&assets.kernel, initramfs),
        };
        let machine = qemu::Machine {
            kernel,
            initramfs,
            memory_mib: options.memory_mib,
            cpus: options.cpus,
            monitor: &at("qmp"),
            agent: &at("agent"),
            console: &console,
            device: options
                .device
                .as_deref()
                .map(|socket| (socket, qemu::device(options.virtqueues, qemu::QUEUE_SIZE))),
            drives: &options.drives,
            vhost_disks: &options.vhost_disks,
            balloon: options.balloon,
            translated_mib: options.translated_mib,
            plugin: options.plugin.as_ref(),
            inner: inner
                .is_some()
                .then(|| (at("inner"), at("inner-console.log"))),
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
        let inner = match inner {
            Some(socket) => {
                let port = accept("QEMU's port for a guest in the guest", &socket)?;
                Some((Arc::new(Link::new(port)?), at("inner-console.log")))
            }
            None => None,
        };
        let monitor = accept("QEMU's monitor", &monitor)?;
        let guest = Self {
            name: options.name,
            link: Arc::new(Link::new(agent)?),
            console: Console {
                file: console,
                from: 0,
            },
            logs: assets.logs.clone(),
            done: false,
            machine: Qemu {
                qmp: Mutex::new(Qmp::new(monitor)?),
                process,
                virtqueues: options.virtqueues,
                plugs: 0,
                backend: qemu::DEVICE.into(),
                inner,
                dir,
            },
        };
        guest.booted()
    }

    /// The line to the agent of a guest in this guest, and the file that its
    /// console goes to, if there can be one.
    pub(crate) fn inner(&self) -> Option<(&Arc<Link>, &Path)> {
        let (link, console) = self.machine.inner.as_ref()?;
        Some((link, console))
    }

    /// Unplugs the device: the guest's driver is removed, QEMU disconnects
    /// from the daemon.
    ///
    /// # Errors
    /// QEMU refuses, or the guest does not let go of it.
    pub fn unplug(&self) -> Result<()> {
        let mut qmp = lock(&self.machine.qmp);
        qmp.execute("device_del", json!({ "id": qemu::DEVICE }))?;
        qmp.event("DEVICE_DELETED", qemu::DEVICE, UNPLUG)?;
        // The chardev stays busy until the device is wholly gone.
        until("the chardev to be free", UNPLUG, || {
            Ok(qmp
                .execute("chardev-remove", json!({ "id": self.machine.backend }))
                .ok())
        })?;
        Ok(())
    }

    /// A command of QEMU's monitor.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn qmp(&self, command: &str, arguments: serde_json::Value) -> Result<serde_json::Value> {
        lock(&self.machine.qmp).execute(command, arguments)
    }

    /// Unplugs the disk `number`, counted from 0, whatever it is used for.
    ///
    /// # Errors
    /// QEMU refuses, or the guest does not let go of it.
    pub fn unplug_drive(&self, number: usize) -> Result<()> {
        let id = Drive::device_id(number);
        let mut qmp = lock(&self.machine.qmp);
        qmp.execute("device_del", json!({ "id": id }))?;
        qmp.event("DEVICE_DELETED", &id, UNPLUG)
    }

    /// Loads the driver of virtio-blk disks, and waits for the first one.
    ///
    /// # Errors
    /// There is none.
    pub fn virtio_disk_appears(&self) -> Result<()> {
        // Built in or not, by the kernel.
        self.try_run("modprobe virtio_pci")?;
        self.run("modprobe virtio_blk")?;
        until("/dev/vda with a size", APPEARS, || {
            let size = self.read("/sys/block/vda/size").unwrap_or_default();
            Ok((size.trim().parse::<u64>().unwrap_or(0) > 0).then_some(()))
        })
    }

    /// What the disk `number`, counted from 0, is called in the guest, once it is there. Disks
    /// behind one driver are named in the order in which they answer, which is any.
    ///
    /// # Errors
    /// It does not appear.
    pub fn drive(&self, number: usize) -> Result<String> {
        let id = Drive::device_id(number);
        // Where virtio-blk, NVMe and SCSI have it; the last with a header of four bytes.
        let script = format!(
            "cd /sys/block; for name in *; do\n\
             for file in $name/serial $name/device/serial $name/device/vpd_pg80; do\n\
             \tbusybox test -b /dev/$name && busybox test -f $file || continue\n\
             \tif busybox test \"$(busybox tr -cd a-z0-9 <$file)\" = {id}; then\n\
             \t\techo /dev/$name; exit\n\
             \tfi\n\
             done; done"
        );
        until(&format!("{id} to appear"), APPEARS, || {
            let name = self.sh(&script)?;
            Ok(Some(name.trim().to_string()).filter(|name| !name.is_empty()))
        })
    }

    /// Plugs in a device that the daemon serves at `socket`.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn plug(&mut self, socket: &Path) -> Result<()> {
        self.plug_with(socket, qemu::QUEUE_SIZE)
    }

    /// The same with queues of `queue_size` descriptors.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn plug_with(&mut self, socket: &Path, queue_size: u32) -> Result<()> {
        let machine = &mut self.machine;
        machine.plugs += 1;
        machine.backend = format!("backend{}", machine.plugs);
        let mut device = qemu::device(machine.virtqueues, queue_size);
        if let Some(device) = device.as_object_mut() {
            device.insert("chardev".into(), machine.backend.clone().into());
        }
        let qmp = machine.qmp.get_mut().unwrap_or_else(|e| e.into_inner());
        qmp.execute(
            "chardev-add",
            json!({
                "id": machine.backend,
                "backend": { "type": "socket", "data": {
                    "addr": { "type": "unix", "data": { "path": socket } },
                    "server": false,
                } },
            }),
        )?;
        qmp.execute("device_add", device)?;
        Ok(())
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
