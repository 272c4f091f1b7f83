// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon, with a holder of what outlives it.

use crate::area::Area;
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tmem_agent::http;

/// For what happens by itself: only what never happens takes so long, on an emulated CPU among others.
const PROMPT: Duration = Duration::from_secs(240);

/// For an answer that waits for no device.
const ANSWER: Duration = Duration::from_secs(30);

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
            .arg("--run")
            .arg(&self.dir)
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

    /// It answers this at once, with such a status.
    pub(crate) fn answers(&self, method: &str, path: &str, body: &str, status: u16) {
        let start = Instant::now();
        let response = http::request(&self.socket("control"), method, path, body);
        let response = response.unwrap_or_else(|error| panic!("{method} {path}: {error:#}"));
        assert_eq!(response.status, status, "{method} {path}: {response:?}");
        let took = start.elapsed();
        assert!(took < ANSWER, "{method} {path} took {took:?}");
    }

    /// Numbers of the statistics, all of one moment.
    pub(crate) fn numbers<const N: usize>(&self, pointers: [&str; N]) -> [u64; N] {
        let stats: Value = serde_json::from_str(&self.ask("/v1/stats").unwrap()).unwrap();
        pointers.map(|pointer| {
            let number = stats.pointer(pointer).and_then(Value::as_u64);
            number.unwrap_or_else(|| panic!("no {pointer} in {stats}"))
        })
    }

    /// A number of the statistics.
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let [number] = self.numbers([pointer]);
        number
    }

    /// How often the area has stalled for somebody.
    pub(crate) fn stalls(&self) -> u64 {
        let [a, b] = self.numbers(["/vms/a/spill_stalls", "/vms/b/spill_stalls"]);
        a + b
    }

    /// Asks it to end, as an operator does.
    pub(crate) fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Waits until it has ended as it should.
    pub(crate) fn is_over(&mut self) {
        let mut child = self.child.take().unwrap();
        let mut ended = None;
        wait_for("the daemon to end", || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        });
        let status = ended.unwrap();
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
