// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest: a stock kernel with the agent as its first program.

mod inside;
mod qemu;

pub use qemu::GuestOptions;
pub use qemu::Qemu;

use crate::console;
use crate::link::Link;
use crate::wait::until;
use anyhow::Result;
use anyhow::bail;
use std::fmt;
use std::fmt::Display;
use std::fmt::Formatter;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tmem_agent::protocol::Command;

/// From the machine's start to the agent's: 5 s in QEMU, 15 s in an outer
/// guest, alone on an idle machine.
const BOOT: Duration = Duration::from_secs(180);

/// For the machine to end once the guest has switched off.
pub(crate) const OFF: Duration = Duration::from_secs(60);

/// For a guest of a failed test to say what its tasks wait for.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A guest whose agent was never heard of: nothing of ours has run in it.
#[derive(Debug)]
pub(crate) struct DidNotBoot(String);

impl Display for DidNotBoot {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} did not boot", self.0)
    }
}

/// What a guest runs on.
pub trait Machine {
    /// Process id of the program that is the machine, where it runs.
    fn pid(&self) -> u32;

    /// What loads the module, so that it finds the machine's device.
    fn load(&self) -> Vec<String>;

    /// Waits for the machine's end after a power-off in the guest.
    ///
    /// # Errors
    /// It does not end well within `limit`.
    fn is_off(&mut self, limit: Duration) -> Result<()>;

    /// Ends the machine at once.
    ///
    /// # Errors
    /// It is lost.
    fn kill(&mut self) -> Result<()>;

    /// What the machine has to say about itself.
    fn log(&self) -> String;
}

/// A running guest. Dropped without [`Guest::power_off`] or [`Guest::kill`], as
/// by a test that fails, it is killed, its console's last lines are shown and
/// the whole log is kept.
pub struct Guest<M: Machine = Qemu> {
    pub(crate) name: String,
    pub(crate) link: Arc<Link>,
    pub(crate) console: Console,
    pub(crate) logs: PathBuf,
    pub(crate) done: bool,
    pub(crate) machine: M,
}

/// Where the kernel's messages are: a file, from a byte on.
pub(crate) struct Console {
    pub(crate) file: PathBuf,
    pub(crate) from: u64,
}

impl Console {
    fn text(&self) -> String {
        let mut bytes = Vec::new();
        // What cannot be read is missed by whoever looks for it.
        let _ = std::fs::File::open(&self.file).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.from))?;
            file.read_to_end(&mut bytes)
        });
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl<M: Machine> Guest<M> {
    /// Waits for the agent of a guest that has been started.
    pub(crate) fn booted(self) -> Result<Self> {
        self.link
            .ready(BOOT)
            .map_err(|error| error.context(DidNotBoot(self.name.clone())))?;
        Ok(self)
    }

    /// For messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine's process id, where it runs.
    pub fn pid(&self) -> u32 {
        self.machine.pid()
    }

    /// What the kernel has said so far.
    pub fn console(&self) -> String {
        self.console.text()
    }

    /// What the machine itself has said so far.
    pub fn machine_log(&self) -> String {
        self.machine.log()
    }

    /// Waits until the kernel has said `text`.
    ///
    /// # Errors
    /// It does not within `limit`.
    pub fn says(&self, text: &str, limit: Duration) -> Result<()> {
        let what = format!("{text:?} on the console of {}", self.name);
        until(&what, limit, || {
            Ok(self.console().contains(text).then_some(()))
        })
    }

    /// Fails if the kernel has said anything that it must not say.
    ///
    /// # Errors
    /// It has.
    pub fn healthy(&self) -> Result<()> {
        let log = self.console();
        let trouble = console::trouble(&log);
        if !trouble.is_empty() {
            bail!(
                "the kernel of {} reports:\n{}",
                self.name,
                trouble.join("\n")
            );
        }
        Ok(())
    }

    /// Switches off, and checks that the kernel stayed healthy.
    ///
    /// # Errors
    /// It does not switch off, or had reported a bug.
    pub fn power_off(mut self) -> Result<()> {
        self.healthy()?;
        self.link.send(Command::PowerOff)?;
        self.machine.is_off(OFF)?;
        self.ended_healthy()
    }

    /// Ends the machine at once, as a crash of it would; checks that the
    /// kernel was healthy until then.
    ///
    /// # Errors
    /// It had reported a bug.
    pub fn kill(mut self) -> Result<()> {
        self.machine.kill()?;
        self.ended_healthy()
    }

    pub(crate) fn ended_healthy(&mut self) -> Result<()> {
        self.healthy()?;
        self.done = true;
        Ok(())
    }

    /// Has the kernel say what every blocked task waits for, if the guest still
    /// listens.
    fn tell_of_blocked(&self) {
        let path = "/proc/sysrq-trigger".to_string();
        let text = "w".to_string();
        let told = self.link.send(Command::Write { path, text });
        // It is a help only.
        let _ = told.and_then(|replies| replies.next("blocked tasks", LAST_WORDS));
    }

    fn keep_log(&self) {
        self.tell_of_blocked();
        let log = self.console();
        let name = &self.name;
        let kept = self.logs.join(format!("{name}-{}.log", self.pid()));
        let place =
            match std::fs::create_dir_all(&self.logs).and_then(|()| std::fs::write(&kept, &log)) {
                Ok(()) => kept.display().to_string(),
                Err(error) => format!("not kept: {error}"),
            };
        eprintln!(
            "---- last lines on the console of {name} (all of it: {place})\n{}\n----",
            console::tail(&log, 60)
        );
        let log = self.machine.log();
        if !log.is_empty() {
            eprintln!(
                "---- the machine of {name} says\n{}\n----",
                console::tail(&log, 40)
            );
        }
    }
}

impl<M: Machine> Drop for Guest<M> {
    fn drop(&mut self) {
        if !self.done {
            self.keep_log();
        }
    }
}
