// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon, with a holder of what outlives it.

use crate::area::Area;
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tmem_agent::http;

/// For the daemon to listen, or to end.
const PROMPT: Duration = Duration::from_secs(30);

pub(crate) struct Daemon {
    program: PathBuf,
    dir: PathBuf,
    memory: String,
    holder: Child,
    child: Option<Child>,
    logs: u32,
}

impl Daemon {
    /// Serves these machines, with so much memory for pages.
    pub(crate) fn start(program: &Path, dir: &Path, memory: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let holder = Command::new(program)
            .arg("--holder")
            .arg(dir.join("holder.sock"))
            .stdin(Stdio::null())
            .stderr(File::create(dir.join("holder.log")).unwrap())
            .spawn()
            .unwrap();
        let mut this = Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            memory: memory.to_owned(),
            holder,
            child: None,
            logs: 0,
        };
        wait_for("the holder to listen", || {
            this.dir.join("holder.sock").exists()
        });
        this.begin();
        this.listens();
        this
    }

    pub(crate) fn socket(&self, machine: &str) -> PathBuf {
        self.dir.join(format!("{machine}.sock"))
    }

    fn begin(&mut self) {
        self.logs += 1;
        let child = Command::new(&self.program)
            .arg("--socket-path")
            .arg(self.socket("a"))
            .arg("--socket-path")
            .arg(self.socket("b"))
            .arg("--control-socket")
            .arg(self.socket("control"))
            .arg("--keep-in")
            .arg(self.socket("holder"))
            .args(["--quota", "1G", "--memory-limit", &self.memory])
            .args(["--request-queues", "2", "--log-level", "info", "--spill"])
            .arg(Area::path())
            .stdin(Stdio::null())
            .stderr(File::create(self.log_path()).unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(format!("daemon-{}.log", self.logs))
    }

    /// What this daemon has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap()
    }

    fn listens(&mut self) {
        wait_for("the daemon to listen", || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {}", self.log());
            self.ask("/v1/stats").is_some()
        });
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts the next one.
    pub(crate) fn restart(&mut self) {
        self.begin();
        self.listens();
    }

    /// Starts the next one, which must end by itself.
    pub(crate) fn restart_in_vain(&mut self) -> ExitStatus {
        self.begin();
        let mut ended = None;
        wait_for("the daemon to give up", || {
            ended = self.child.as_mut().unwrap().try_wait().unwrap();
            ended.is_some()
        });
        self.child = None;
        ended.unwrap()
    }

    fn ask(&self, path: &str) -> Option<String> {
        let response = http::request(&self.socket("control"), "GET", path, "").ok()?;
        (response.status == 200).then_some(response.body)
    }

    /// The time that an answer takes.
    pub(crate) fn time(&self, path: &str) -> Duration {
        let start = Instant::now();
        assert!(self.ask(path).is_some(), "{path} is not answered");
        start.elapsed()
    }

    /// A number of the statistics.
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let stats: Value = serde_json::from_str(&self.ask("/v1/stats").unwrap()).unwrap();
        let number = stats.pointer(pointer).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("no {pointer} in {stats}"))
    }

    /// Asks it to end, as an operator does.
    pub(crate) fn stop(mut self) {
        let child = self.child.as_mut().unwrap();
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let is_failing = std::thread::panicking();
        if is_failing && self.logs > 0 {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        for child in self.child.iter_mut().chain([&mut self.holder]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until something holds.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PROMPT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited for {what} in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}
