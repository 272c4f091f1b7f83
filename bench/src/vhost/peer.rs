// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Back-end processes: started here, ended here.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process;

/// Time a back end may take to listen.
const START: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);

/// A running back end and its socket.
pub(crate) struct Peer {
    process: Child,
    /// What keeps the pages of our daemon for the next.
    holder: Option<Child>,
    socket: PathBuf,
    dir: TempDir,
}

impl Peer {
    /// Our daemon, with room for everything, and more options.
    pub(super) fn daemon(program: &Path, more: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (mut command, socket) = daemon(program, &dir);
        command.args(more);
        Self::start(command, socket, dir)
    }

    /// Our daemon as it is by default, but for its room and `more` options.
    pub(crate) fn default_daemon(program: &Path, more: &[String]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("tmem.sock");
        let mut command = process::bound(program);
        command
            .arg("--socket-path")
            .arg(&socket)
            .args([
                "--quota",
                "2G",
                "--memory-limit",
                "2G",
                "--log-level",
                "error",
            ])
            .args(more);
        Self::start(command, socket, dir)
    }

    /// Our daemon, with a plain disk of `size` bytes and room for everything.
    pub(crate) fn disk(program: &Path, size: u64) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("disk.sock");
        let mut command = process::bound(program);
        command
            .arg("--vm")
            .arg(format!(
                "socket={},personality=blk,size={size},quota=2G",
                socket.display()
            ))
            .args(["--memory-limit", "2G", "--request-queues", "1"])
            .args(["--log-level", "error"]);
        Self::start(command, socket, dir)
    }

    /// Our daemon, whose pages and connections outlive it.
    pub(super) fn kept_daemon(program: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let keeps = dir.path().join("holder");
        let holder = process::bound(program)
            .arg("--holder")
            .arg(&keeps)
            .args(["--log-level", "error"])
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let (mut command, socket) = daemon(program, &dir);
        command.arg("--keep-in").arg(&keeps);
        let end = Instant::now() + START;
        while !keeps.exists() && Instant::now() < end {
            std::thread::sleep(PAUSE);
        }
        let mut peer = Self::start(command, socket, dir)?;
        peer.holder = Some(holder);
        Ok(peer)
    }

    /// Our daemon with several machines, each with a name and a quota.
    pub(crate) fn machines(program: &Path, machines: &[(&str, &str)]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = process::bound(program);
        for (name, quota) in machines {
            let socket = dir.path().join(name);
            let machine = format!("name={name},socket={},quota={quota}", socket.display());
            command.arg("--vm").arg(machine);
        }
        command.args(["--memory-limit", "2G"]).args([
            "--request-queues",
            "1",
            "--log-level",
            "off",
        ]);
        let first = machines.first().context("no machine")?;
        let socket = dir.path().join(first.0);
        Self::start(command, socket, dir)
    }

    /// The socket of a machine.
    pub(crate) fn socket_of(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Connects as soon as it is listened for this machine.
    pub(crate) fn connect_to(&mut self, name: &str) -> Result<UnixStream> {
        self.connect_at(&self.socket_of(name))
    }

    /// Time that its threads were on CPUs.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        process::cpu_time(self.process.id())
    }

    /// Its socket, once it is there.
    pub(crate) fn listening(&mut self) -> Result<&Path> {
        let end = Instant::now() + START;
        while !self.socket.exists() {
            self.check(end)?;
            std::thread::sleep(PAUSE);
        }
        Ok(&self.socket)
    }

    /// Fails if it has ended, or if it is late.
    fn check(&mut self, end: Instant) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("the back end ended at once: {status}");
        }
        if Instant::now() > end {
            bail!("the back end does not listen");
        }
        Ok(())
    }

    /// QEMU's storage daemon, exporting a file of `size` bytes in shared memory.
    pub(crate) fn storage_daemon(program: &OsStr, words: &[OsString], size: u64) -> Result<Self> {
        let dir =
            tempfile::tempdir_in("/dev/shm").context("cannot make the peer's file in /dev/shm")?;
        let socket = dir.path().join("blk.sock");
        let disk = dir.path().join("disk.raw");
        File::create(&disk)?.set_len(size)?;
        let mut command = process::bound(program);
        command
            .args(words)
            .arg("--blockdev")
            .arg(format!(
                "driver=file,node-name=disk,filename={}",
                disk.display()
            ))
            .arg("--export")
            .arg(format!(
                "vhost-user-blk,id=disk,node-name=disk,addr.type=unix,addr.path={},\
                 writable=on,num-queues=1",
                socket.display()
            ));
        Self::start(command, socket, dir)
    }

    fn start(mut command: Command, socket: PathBuf, dir: TempDir) -> Result<Self> {
        let process = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self {
            process,
            holder: None,
            socket,
            dir,
        })
    }

    /// Connects as soon as the back end listens.
    pub(super) fn connect(&mut self) -> Result<UnixStream> {
        self.connect_at(&self.socket.clone())
    }

    fn connect_at(&mut self, socket: &Path) -> Result<UnixStream> {
        let end = Instant::now() + START;
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => return Ok(stream),
                Err(_) => std::thread::sleep(PAUSE),
            }
            self.check(end)?;
        }
    }
}

/// The command line of our daemon, and its socket.
fn daemon(program: &Path, dir: &TempDir) -> (Command, PathBuf) {
    let socket = dir.path().join("tmem.sock");
    let mut command = process::bound(program);
    command
        .arg("--socket-path")
        .arg(&socket)
        .args(["--quota", "2G", "--memory-limit", "2G"])
        .args(["--request-queues", "1", "--log-level", "error"]);
    (command, socket)
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        for process in std::iter::once(&mut self.process).chain(&mut self.holder) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
