// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The program as a child process.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

use crate::guest::Guest;

/// How long anything may take before the test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Whether guests can run here. If not, says why, past the test's capture.
pub(crate) fn can_run() -> bool {
    match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => true,
        Err(error) => {
            skip(&format!("/dev/kvm: {error}"));
            false
        }
    }
}

/// Says that the test is not made, and why, past the test's capture.
pub(crate) fn skip(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // At once: other tests write there, too.
    let line = format!("skipped {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The program with `guest`, which is put into `dir` like the API's socket.
pub(crate) fn machine(dir: &Path, guest: &Guest, args: &[&str]) -> Command {
    let mut program = program(&["--memory", "8M", "--kernel"]);
    program.arg(kernel(dir, guest)).args(args);
    program.arg("--api-socket").arg(dir.join("api"));
    program
}

/// The program with `args`.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tmem-vmm"));
    command.args(args);
    command
}

/// What the program said and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// The guest's serial output that was not looked at before.
    pub(crate) out: String,
    /// What the program said on stderr.
    pub(crate) said: String,
}

impl Ended {
    /// The exit code.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Checks that the program ended with `code`, and said nothing.
    pub(crate) fn silently(&self, code: i32) {
        assert_eq!((self.code(), &*self.said), (Some(code), ""), "{self:?}");
    }
}

/// A running machine; killed if it is dropped.
#[derive(Debug)]
pub(crate) struct Vmm {
    child: Child,
    dir: TempDir,
    out: Receiver<Vec<u8>>,
    /// Output that was not looked at yet.
    seen: String,
    said: Option<JoinHandle<String>>,
}

impl Vmm {
    /// Starts `guest` with its console on pipes.
    pub(crate) fn start(guest: &Guest, args: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let program = machine(dir.path(), guest, args);
        // Whoever runs the tests may ignore signals.
        let mut env = Command::new("env");
        env.arg("--default-signal");
        env.arg(program.get_program()).args(program.get_args());
        Self::spawn(env, dir)
    }

    /// Starts a program with its console on pipes.
    pub(crate) fn spawn(mut program: Command, dir: TempDir) -> Self {
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, said) = (child.stdout.take(), child.stderr.take());
        Self::watch(child, dir, out.unwrap(), said.unwrap())
    }

    /// Watches what a program that was started says.
    pub(crate) fn watch(
        child: Child,
        dir: TempDir,
        mut out: impl Read + Send + 'static,
        mut said: impl Read + Send + 'static,
    ) -> Self {
        let (chunks, seen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = out.read(&mut bytes) {
                // Nobody listens any more when a test has failed.
                let _ = chunks.send(bytes[..len].to_vec());
            }
        });
        let said = std::thread::spawn(move || {
            let mut text = String::new();
            said.read_to_string(&mut text).unwrap();
            text
        });
        Self {
            child,
            dir,
            out: seen,
            seen: String::new(),
            said: Some(said),
        }
    }

    /// The API socket.
    pub(crate) fn api(&self) -> PathBuf {
        self.dir.path().join("api")
    }

    /// Waits until `text` is in the guest's output, after what was waited for
    /// before.
    pub(crate) fn see(&mut self, text: &str) {
        let began = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            match self.receive(PATIENCE.saturating_sub(began.elapsed())) {
                Some(more) => self.seen.push_str(&more),
                None => panic!("no '{text}': {:?}", self.kill()),
            }
        }
    }

    /// What the guest wrote and was not looked at yet; waits until there is
    /// something. `None`: there is nothing for so long, or it has ended.
    pub(crate) fn more(&mut self, patience: Duration) -> Option<String> {
        if !self.seen.is_empty() {
            return Some(std::mem::take(&mut self.seen));
        }
        self.receive(patience)
    }

    fn receive(&mut self, patience: Duration) -> Option<String> {
        let bytes = self.out.recv_timeout(patience).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the program has ended.
    pub(crate) fn end(mut self) -> Ended {
        if !has_ended(&self.child, PATIENCE) {
            panic!("the program does not end: {:?}", self.kill());
        }
        self.ended()
    }

    fn kill(&mut self) -> Ended {
        // It may have ended already.
        let _ = self.child.kill();
        self.ended()
    }

    fn ended(&mut self) -> Ended {
        let status = self.child.wait().unwrap();
        let mut out = std::mem::take(&mut self.seen);
        while let Ok(bytes) = self.out.recv() {
            out.push_str(&String::from_utf8_lossy(&bytes));
        }
        let said = self.said.take().map(|said| said.join().unwrap());
        Ended {
            status,
            out,
            said: said.unwrap_or_default(),
        }
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `guest` to its end.
pub(crate) fn run(guest: &Guest, args: &[&str]) -> Ended {
    Vmm::start(guest, args).end()
}

/// A file with `guest` in `dir`.
pub(crate) fn kernel(dir: &Path, guest: &Guest) -> PathBuf {
    let path = dir.join("guest");
    std::fs::write(&path, guest.elf()).unwrap();
    path
}

/// Waits for the end of a program.
pub(crate) fn has_ended(child: &Child, patience: Duration) -> bool {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    is_readable(&process, patience)
}

/// Waits until `file` can be read, and says whether it can.
pub(crate) fn is_readable(file: impl AsFd, patience: Duration) -> bool {
    let mut fds = [PollFd::new(&file, PollFlags::IN)];
    poll(&mut fds, Some(&patience.try_into().unwrap())).unwrap() == 1
}
