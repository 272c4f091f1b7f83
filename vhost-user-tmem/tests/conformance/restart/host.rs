// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A host on which one daemon serves the machine `a` after the other.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::manager::Manager;

/// What outlives a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outside {
    /// A folder on tmpfs.
    Store,
    /// A holder.
    Holder,
    /// The service manager.
    Manager,
}

pub(crate) struct Host {
    outside: Outside,
    folder: TempDir,
    holder: Option<Child>,
    manager: Option<Manager>,
    /// Descriptors that the next daemon is started with.
    passed: Vec<OwnedFd>,
    daemon: Option<Child>,
    /// Settings of the machine, if it has some of its own.
    pub(crate) machine: Option<String>,
    /// More of the command line.
    pub(crate) options: Vec<String>,
    /// The program of another build, and whether it is the next one's turn.
    other: Option<(PathBuf, bool)>,
    /// What the next daemons are asked to go wrong with.
    fault: Option<String>,
}

impl Host {
    /// Starts a daemon.
    pub(crate) fn start(outside: Outside) -> Self {
        Self::start_with(outside, &[])
    }

    pub(crate) fn start_with(outside: Outside, options: &[&str]) -> Self {
        let mut this = Self::new(outside, options);
        this.start_daemon();
        this
    }

    /// No daemon is there yet.
    pub(crate) fn new(outside: Outside, options: &[&str]) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut this = Self {
            outside,
            folder,
            holder: None,
            manager: None,
            passed: Vec::new(),
            daemon: None,
            machine: None,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            other: None,
            fault: None,
        };
        if outside == Outside::Holder {
            let program = env!("CARGO_BIN_EXE_vhost-user-tmem");
            let mut holder = Command::new(program);
            holder.arg("--holder").arg(this.path("holder"));
            this.holder = Some(holder.spawn().unwrap());
            wait_for(|| this.path("holder").exists());
        }
        if outside == Outside::Manager {
            this.manager = Some(Manager::start(&this.path("notify")));
        }
        this
    }

    /// One whose daemons have a control socket. None is there yet.
    pub(crate) fn watched() -> Self {
        let mut this = Self::new(Outside::Store, &[]);
        let control = this.path("control.sock");
        let control = control.to_str().unwrap().to_owned();
        this.options
            .extend(["--control-socket".to_owned(), control]);
        this
    }

    /// A connection to that.
    pub(crate) fn control(&self) -> UnixStream {
        UnixStream::connect(self.path("control.sock")).unwrap()
    }

    /// Descriptors that the service manager keeps.
    pub(crate) fn kept(&self) -> usize {
        self.manager.as_ref().map_or(0, Manager::count)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the machine connects.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("a.sock")
    }

    fn place(&self) -> [String; 2] {
        let socket = self.socket();
        let socket = socket.display();
        match &self.machine {
            None => ["--socket-path".to_owned(), socket.to_string()],
            Some(settings) => ["--vm".to_owned(), format!("socket={socket},{settings}")],
        }
    }

    /// Unless the options say something else.
    fn limits(&self) -> Vec<&str> {
        let limits = [["--memory-limit", "64M"], ["--quota", "32M"]];
        let is_given = |name: &&str| self.options.iter().any(|option| option == name);
        let limits = limits.into_iter().filter(|[name, _]| !is_given(name));
        limits.flatten().collect()
    }

    fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// What all daemons have logged.
    pub(crate) fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap()
    }

    /// The command line of a daemon.
    pub(crate) fn command(&mut self, program: &Path) -> Command {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.log())
            .unwrap();
        let mut command = match &self.manager {
            Some(manager) => {
                let (command, passed) = manager.command(program);
                self.passed = passed;
                command
            }
            None => Command::new(program),
        };
        command
            .args(self.limits())
            .args(self.place())
            .args(&self.options)
            .stderr(Stdio::from(log));
        if let Some(fault) = &self.fault {
            command.env("TMEM_FAULT", fault);
        }
        match self.outside {
            Outside::Store => command.arg("--store").arg(self.path("store")),
            Outside::Holder => command.arg("--keep-in").arg(self.path("holder")),
            Outside::Manager => &mut command,
        };
        command
    }

    /// Starts the next daemon, and waits until it serves.
    pub(crate) fn start_daemon(&mut self) {
        let before = self.starts();
        self.spawn_daemon();
        wait_for(|| self.starts() > before);
    }

    /// The command line of a daemon of this build.
    pub(crate) fn daemon(&mut self) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_vhost-user-tmem")))
    }

    /// From now on each other daemon is one of this program.
    pub(crate) fn alternate_with(&mut self, program: PathBuf) {
        self.other = Some((program, true));
    }

    /// Starts the next daemon, and does not wait.
    pub(crate) fn spawn_daemon(&mut self) {
        let other = self.other.as_mut().and_then(|(program, is_next)| {
            *is_next = !*is_next;
            (!*is_next).then(|| program.clone())
        });
        let mut command = match other {
            Some(program) => self.command(&program),
            None => self.daemon(),
        };
        self.daemon = Some(command.spawn().unwrap());
        self.passed.clear();
    }

    /// Daemons that said that they serve.
    fn starts(&self) -> usize {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.matches(" virtual machines, at most ").count()
    }

    /// Ends the daemon by this signal, and waits until it has ended.
    pub(crate) fn end(&mut self, signal: Signal) {
        let mut daemon = self.daemon.take().unwrap();
        kill_process(Pid::from_child(&daemon), signal).unwrap();
        daemon.wait().unwrap();
    }

    /// Ends the daemon and starts the next.
    pub(crate) fn restart(&mut self, signal: Signal) {
        self.end(signal);
        self.start_daemon();
    }

    /// Has the next daemons go wrong in this way.
    pub(crate) fn set_fault(&mut self, fault: Option<String>) {
        self.fault = fault;
    }

    /// Waits until the daemon has ended by itself; how.
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let daemon = self.daemon.as_mut().unwrap();
            if let Some(status) = daemon.try_wait().unwrap() {
                self.daemon = None;
                return status;
            }
            assert!(Instant::now() < deadline, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether the daemon has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.daemon.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// The service manager does nothing any more.
    pub(crate) fn get_stuck(&self) {
        self.manager.as_ref().unwrap().get_stuck();
    }

    /// The holder goes, and what it keeps.
    pub(crate) fn end_holder(&mut self) {
        let mut holder = self.holder.take().unwrap();
        holder.kill().unwrap();
        holder.wait().unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in [&mut self.daemon, &mut self.holder].into_iter().flatten() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!(
                "{}",
                std::fs::read_to_string(self.log()).unwrap_or_default()
            );
        }
    }
}

/// Waits until it is so.
pub(crate) fn wait_for(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to that");
        std::thread::sleep(Duration::from_millis(2));
    }
}
