// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One daemon after the other, and the holder that keeps what they leave.

use super::outcome::Way;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Time that a start may take.
const START: Duration = Duration::from_secs(120);

/// A process that is killed when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) struct Host {
    program: PathBuf,
    /// Most bytes that a daemon holds.
    limit: u64,
    daemon: Option<Process>,
    _holder: Process,
    dir: TempDir,
}

/// What a daemon says of itself.
pub(super) struct Stats {
    /// Bytes that it holds.
    pub(super) held: u64,
    /// Pages that are not compressed yet.
    pub(super) deferred: u64,
}

impl Host {
    /// Starts a holder and a daemon that may hold `held` bytes, and some more.
    pub(super) fn start(program: &Path, held: u64) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a directory for sockets")?;
        let holder = Command::new(program)
            .arg("--holder")
            .arg(dir.path().join("holder"))
            .args(["--log-level", "error"])
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut host = Self {
            program: program.to_owned(),
            limit: held + held / 4 + (256 << 20),
            daemon: None,
            _holder: Process(holder),
            dir,
        };
        let end = Instant::now() + START;
        while !host.dir.path().join("holder").exists() {
            if Instant::now() > end {
                bail!("the holder does not listen");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        host.start_next(usize::MAX)?;
        Ok(host)
    }

    /// Connects to the daemon.
    pub(super) fn socket(&self) -> Result<UnixStream> {
        UnixStream::connect(self.dir.path().join("tmem.sock")).context("cannot connect")
    }

    /// Kills the daemon or asks it to end, and waits until it has.
    pub(super) fn end(&mut self, way: Way) -> Result<()> {
        let mut daemon = self.daemon.take().context("no daemon is there")?;
        match way {
            Way::Killed | Way::KilledWhole => daemon.0.kill().context("cannot kill the daemon")?,
            Way::AskedWhole => {
                kill_process(Pid::from_child(&daemon.0), Signal::TERM)
                    .context("cannot ask the daemon to end")?;
            }
        }
        daemon.0.wait().context("the daemon does not end")?;
        Ok(())
    }

    /// Starts the next daemon on so many CPUs; the time until it serves.
    pub(super) fn start_next(&mut self, cpus: usize) -> Result<Duration> {
        let path = |name| self.dir.path().join(name);
        let limit = self.limit.to_string();
        let mut command = Command::new(&self.program);
        command
            .arg("--keep-in")
            .arg(path("holder"))
            .arg("--socket-path")
            .arg(path("tmem.sock"))
            .arg("--control-socket")
            .arg(path("control.sock"))
            .args(["--quota", &limit, "--memory-limit", &limit])
            .args(["--request-queues", "1"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let begin = Instant::now();
        let daemon = on_cpus(cpus, || command.spawn())?;
        let mut daemon = Process(daemon.context("cannot start the daemon")?);
        let log = daemon.0.stderr.take().context("no log of the daemon")?;
        let mut log = BufReader::new(log);
        let mut said = String::new();
        loop {
            let from = said.len();
            if log.read_line(&mut said)? == 0 {
                bail!("the daemon ended: {said}");
            }
            if said
                .get(from..)
                .is_some_and(|line| line.contains("serving "))
            {
                break;
            }
        }
        let back = begin.elapsed();
        // It must not wait for a reader of its log.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        self.daemon = Some(daemon);
        Ok(back)
    }

    pub(super) fn stats(&self) -> Result<Stats> {
        let mut stream = UnixStream::connect(self.dir.path().join("control.sock"))?;
        write!(stream, "GET /v1/stats HTTP/1.1\r\nHost: tmem\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no statistics")?;
        let body: serde_json::Value = serde_json::from_str(body)?;
        let number = |name: &str| {
            let number = body.pointer(&format!("/store/{name}"));
            number.and_then(serde_json::Value::as_u64)
        };
        Ok(Stats {
            held: number("held_bytes").context("no statistics")?,
            deferred: number("deferred_pages").context("no statistics")?,
        })
    }
}

/// Runs `spawn`, and has what it starts use only so many of the CPUs.
fn on_cpus<T>(most: usize, spawn: impl FnOnce() -> T) -> Result<T> {
    let all = sched_getaffinity(None).context("cannot ask for CPUs")?;
    let mut some = CpuSet::new();
    let there = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
    there.take(most).for_each(|cpu| some.set(cpu));
    sched_setaffinity(None, &some).context("cannot choose CPUs")?;
    let done = spawn();
    sched_setaffinity(None, &all).context("cannot choose CPUs")?;
    Ok(done)
}
