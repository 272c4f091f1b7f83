// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is done inside a guest, by its agent.

use crate::assets::Assets;
use crate::guest::Guest;
use crate::guest::Machine;
use crate::job::Job;
use crate::link::Link;
use crate::wait::until;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tmem_agent::http::Response;
use tmem_agent::protocol::Answer;
use tmem_agent::protocol::Command;
use tmem_agent::protocol::Workload;

/// For a short program in the guest, swapoff with much to bring back included.
const RUN: Duration = Duration::from_secs(240);

/// For a device to show up.
const APPEARS: Duration = Duration::from_secs(60);

/// Where the module counts, under debugfs.
const COUNTERS: &str = "/sys/kernel/debug/tmem";

impl<M: Machine> Guest<M> {
    /// The line to the agent.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Runs a program; gives back its exit code and output.
    ///
    /// # Errors
    /// It cannot be started, a signal ended it, or it takes too long.
    pub fn try_run(&self, line: &str) -> Result<(i32, String)> {
        let argv = line.split_whitespace().map(str::to_string).collect();
        self.try_argv(line, argv, RUN)
    }

    /// Runs a program that must succeed; gives back its output.
    ///
    /// # Errors
    /// As [`Guest::try_run`], or its exit code is not 0.
    pub fn run(&self, line: &str) -> Result<String> {
        succeeded(line, self.try_run(line)?)
    }

    /// Runs a shell script that must succeed; gives back its output.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn sh(&self, script: &str) -> Result<String> {
        self.sh_within(script, RUN)
    }

    /// As [`Guest::sh`], but waits for `limit` at most.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn sh_within(&self, script: &str, limit: Duration) -> Result<String> {
        let argv = ["sh", "-euc", script].map(str::to_string).into();
        succeeded(script, self.try_argv(script, argv, limit)?)
    }

    fn try_argv(&self, line: &str, argv: Vec<String>, limit: Duration) -> Result<(i32, String)> {
        let replies = self.link.send(Command::Run { argv })?;
        match replies.next(line, limit)? {
            Answer::Ran {
                code: Some(code),
                output,
            } => Ok((code, output)),
            other => bail!("{line}: {other:?}"),
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

    /// Makes a request to the server at the unix socket `socket` in the guest.
    ///
    /// # Errors
    /// Nobody listens there, or no answer comes.
    pub fn http(&self, socket: &Path, method: &str, path: &str, body: &str) -> Result<Response> {
        let replies = self.link.send(Command::Http {
            socket: socket.display().to_string(),
            method: method.into(),
            path: path.into(),
            body: body.into(),
        })?;
        match replies.next(path, RUN)? {
            Answer::Http(response) => Ok(response),
            other => bail!("{method} {path}: {other:?}"),
        }
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

    /// Loads the module, and what it needs to find the device.
    ///
    /// # Errors
    /// modprobe fails.
    pub fn load_module(&self) -> Result<()> {
        self.load_module_with("")
    }

    /// The same with `parameters` for the module.
    ///
    /// # Errors
    /// modprobe fails.
    pub fn load_module_with(&self, parameters: &str) -> Result<()> {
        let mut lines = self.machine.load();
        let for_all = std::env::var(Assets::PARAMETERS).unwrap_or_default();
        // The module itself comes last, and so do the test's own parameters, which count.
        if let Some(line) = lines.last_mut() {
            *line = format!("{line} {for_all} {parameters}");
        }
        for line in lines {
            self.run(&line)?;
        }
        Ok(())
    }

    /// Waits until the loaded module has the device. One that is unplugged while it is
    /// being found ends QEMU, now and then.
    ///
    /// # Errors
    /// It does not find it.
    pub fn has_device(&self) -> Result<()> {
        let look = "ls -d /sys/bus/virtio/drivers/virtio_tmem/virtio*";
        until("the module to have the device", APPEARS, || {
            Ok(self.sh(look).is_ok().then_some(()))
        })
    }

    /// Waits for the swap disk to have a size.
    ///
    /// # Errors
    /// It does not appear.
    pub fn disk_appears(&self) -> Result<()> {
        until("/dev/tmem0 with a size", APPEARS, || {
            // Neither file is there before the driver has found the device.
            let size = self.read("/sys/block/tmem0/size").unwrap_or_default();
            Ok((size.trim().parse::<u64>().unwrap_or(0) > 0).then_some(()))
        })
    }

    /// Swaps off the disk, which has lost pages, waits for the driver to replace it with an empty
    /// one, and swaps that on.
    ///
    /// # Errors
    /// One of the steps fails, or the disk is not replaced.
    pub fn swap_on_anew(&self) -> Result<()> {
        let number = || self.read("/sys/block/tmem0/diskseq").unwrap_or_default();
        let old = number();
        self.run("swapoff /dev/tmem0")?;
        until("another /dev/tmem0", APPEARS, || {
            let new = number();
            Ok((!new.is_empty() && new != old).then_some(()))
        })?;
        self.disk_appears()?;
        self.run("mkswap /dev/tmem0")?;
        self.run("swapon /dev/tmem0").map(|_| ())
    }

    /// Has the agent measure [`tmem_agent::first_line::time`].
    pub(crate) fn time_to_first_line(&self, vmm: &Path, kernel: &Path) -> Result<Duration> {
        let [vmm, kernel] = [vmm, kernel].map(|path| path.display().to_string());
        let replies = self.link.send(Command::FirstLine { vmm, kernel })?;
        match replies.next("the kernel's first line", RUN)? {
            Answer::Took { microseconds } => Ok(Duration::from_micros(microseconds)),
            other => bail!("the time was not taken: {other:?}"),
        }
    }

    /// Loads the module and swaps on its disk.
    ///
    /// # Errors
    /// One of the steps fails.
    pub fn swap_on(&self) -> Result<()> {
        self.swap_on_with("")
    }

    /// The same with `parameters` for the module.
    ///
    /// # Errors
    /// As [`Guest::swap_on`].
    pub fn swap_on_with(&self, parameters: &str) -> Result<()> {
        self.load_module_with(parameters)?;
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
}

fn succeeded(line: &str, ran: (i32, String)) -> Result<String> {
    match ran {
        (0, output) => Ok(output),
        (code, output) => bail!("{line} failed with code {code}: {}", output.trim()),
    }
}
