// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon's program, with two virtual machines.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    /// Serves the machines `a` and `b`.
    pub(crate) fn start() -> Self {
        Self::start_with(Stdio::inherit())
    }

    /// The same with its log there.
    pub(crate) fn start_with(log: Stdio) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_vhost-user-tmem")), log)
    }

    /// The same with signals ignored: their names as a shell knows them.
    pub(crate) fn start_ignoring(signals: &str) -> Self {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("trap '' {signals}; exec \"$@\""), "sh"])
            .arg(env!("CARGO_BIN_EXE_vhost-user-tmem"));
        Self::start_by(shell, Stdio::inherit())
    }

    /// The same where the machine `a` may give any memory back.
    pub(crate) fn start_giving_any() -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_vhost-user-tmem"));
        Self::start_as(program, Stdio::inherit(), ",give-back=any")
    }

    /// The same with this much memory for the store and each machine, in the control group
    /// that has this file of members. The program is not in the page cache: the group is
    /// charged for reading it, and the kernel may have to drop it again.
    pub(crate) fn start_in(members: &Path, memory: &str) -> Self {
        let program = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_vhost-user-tmem"), &program).unwrap();
        program.as_file().sync_all().unwrap();
        fadvise(program.as_file(), 0, None, Advice::DontNeed).unwrap();
        let program = program.into_temp_path();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(members)
            .arg(&program);
        Self::start_with_memory(shell, Stdio::inherit(), "", [memory, memory])
    }

    /// The same where the device of machine `a` is a disk of 8 MiB.
    pub(crate) fn start_with_disk(settings: &str) -> Self {
        Self::start_with_disk_and_log(settings, Stdio::inherit())
    }

    /// The same with its log there.
    pub(crate) fn start_with_disk_and_log(settings: &str, log: Stdio) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_vhost-user-tmem"));
        let settings = format!(",personality=blk,size=8M{settings}");
        Self::start_as(program, log, &settings)
    }

    /// The same where rings are looked at for so long, in microseconds.
    pub(crate) fn start_polling(most: u64) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_vhost-user-tmem"));
        program.args(["--poll-max", &most.to_string()]);
        Self::start_by(program, Stdio::inherit())
    }

    fn start_by(program: Command, log: Stdio) -> Self {
        Self::start_as(program, log, "")
    }

    /// `a` has these settings.
    fn start_as(program: Command, log: Stdio, a: &str) -> Self {
        Self::start_with_memory(program, log, a, ["64M", "16M"])
    }

    fn start_with_memory(mut program: Command, log: Stdio, a: &str, sizes: [&str; 2]) -> Self {
        let [memory, quota] = sizes;
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("a.sock");
        let child = program
            .args(["--memory-limit", memory, "--quota", quota, "--vm"])
            .arg(format!("socket={}{a}", socket.display()))
            .arg("--socket-path")
            .arg(folder.path().join("b.sock"))
            .stderr(log)
            .spawn()
            .unwrap();
        let this = Self { child, folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !(this.socket("a").exists() && this.socket("b").exists()) {
            assert!(Instant::now() < deadline, "the daemon does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        this
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.sock"))
    }

    /// Bytes of memory that the daemon has for itself (`RssAnon`).
    pub(crate) fn private_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() << 10
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends SIGTERM; how the daemon ended, if it did within some seconds.
    pub(crate) fn terminate(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
