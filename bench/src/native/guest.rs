// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest of User-Mode Linux: a kernel that is a process of this machine.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tmem_probe::order::{Answer, Order};

use crate::process;

/// Its memory: disks of the size that is read, several times.
const MEMORY: &str = "mem=640M";

/// With several CPUs a wake-up can be late. And its terminals: the
/// kernel's messages, and the orders.
const BOOT: [&str; 8] = [
    "ncpus=1",
    "rdinit=/init",
    "con=null",
    "con0=null,fd:2",
    "con1=fd:0,fd:1",
    "TMEM_TERMINAL=/dev/tty1",
    // One is made for each size, in /config.
    "null_blk.nr_devices=0",
    "brd.rd_size=65536",
];

/// For the guest to do what it is told, on a busy machine.
const LOST: Duration = Duration::from_secs(300);
/// For the guest to end once it was told to.
const END: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// What a guest is made of.
pub(super) struct Machine<'a> {
    pub(super) linux: &'a Path,
    pub(super) initramfs: &'a Path,
    /// Sockets of devices, and which devices these are.
    pub(super) devices: Vec<(PathBuf, u32)>,
    /// Files that are disks: `/dev/ubda`, `/dev/ubdb`, …
    pub(super) disks: Vec<PathBuf>,
    /// Where its console is kept.
    pub(super) log: PathBuf,
}

/// A running guest.
pub(super) struct Guest {
    kernel: Child,
    orders: ChildStdin,
    answers: Receiver<io::Result<String>>,
    log: PathBuf,
}

impl Guest {
    /// Starts it, and waits until it takes orders.
    pub(super) fn start(machine: &Machine) -> Result<Self> {
        let mut command = process::bound(machine.linux);
        command
            .arg(MEMORY)
            .args(BOOT)
            .arg(format!("initrd={}", machine.initramfs.display()));
        for (name, path) in ('a'..).zip(&machine.disks) {
            command.arg(format!("ubd{name}r={}", path.display()));
        }
        for (socket, id) in &machine.devices {
            command.arg(format!("virtio_uml.device={}:{id}", socket.display()));
        }
        let mut kernel = command
            // It finds memory that it can run programs in.
            .env_remove("TMPDIR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its programs are processes, too.
            .process_group(0)
            .spawn()
            .context("cannot start the guest's kernel")?;
        let (Some(orders), Some(lines), Some(mut console)) = (
            kernel.stdin.take(),
            kernel.stdout.take(),
            kernel.stderr.take(),
        ) else {
            bail!("the guest has no terminals");
        };
        let mut log = File::create(&machine.log)
            .with_context(|| format!("cannot write {}", machine.log.display()))?;
        std::thread::spawn(move || io::copy(&mut console, &mut log));
        let (told, answers) = channel();
        std::thread::spawn(move || {
            // It ends with the guest, or when nobody listens.
            BufReader::new(lines)
                .lines()
                .try_for_each(|line| told.send(line))
        });
        let mut guest = Self {
            kernel,
            orders,
            answers,
            log: machine.log.clone(),
        };
        guest.answer().context("the guest does not start")?;
        Ok(guest)
    }

    /// Has it do something, to the end.
    pub(super) fn order(&mut self, order: &Order) -> Result<Answer> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders
            .write_all(&line)
            .and_then(|()| self.orders.flush())
            .context("the guest takes no orders")?;
        self.answer().with_context(|| format!("{order:?}"))
    }

    fn answer(&mut self) -> Result<Answer> {
        let console = || format!("its console: {}", self.log.display());
        let line = match self.answers.recv_timeout(LOST) {
            Ok(line) => line.context("the guest is lost")?,
            Err(RecvTimeoutError::Disconnected) => bail!("the guest has ended; {}", console()),
            Err(RecvTimeoutError::Timeout) => bail!(
                "the guest has not answered within {} s; {}",
                LOST.as_secs(),
                console()
            ),
        };
        let answer: Answer = serde_json::from_str(&line)
            .with_context(|| format!("no answer: {}", line.trim_end()))?;
        match answer.error {
            Some(error) => bail!("the guest: {error}; {}", console()),
            None => Ok(answer),
        }
    }

    /// Time that its kernel was on CPUs; its programs are other processes.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        process::cpu_time(self.kernel.id())
    }

    /// Turns it off.
    pub(super) fn end(mut self) -> Result<()> {
        self.order(&Order::Off)?;
        let start = Instant::now();
        while self.kernel.try_wait()?.is_none() && start.elapsed() < END {
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // What has ended needs no more; its programs end with it.
        if let Ok(None) = self.kernel.try_wait()
            && let Some(group) = i32::try_from(self.kernel.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.kernel.wait();
    }
}
