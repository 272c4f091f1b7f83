// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How long our VMM takes until the kernel says its first line.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::io::Read;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// Has the kernel speak as early as it can.
const COMMAND_LINE: &str = "earlycon=uart8250,io,0x3f8 console=ttyS0";

/// Memory of the guest.
const MEMORY: &str = "256M";

/// Is in the first line.
const WORDS: &[u8] = b"Linux version";

/// Starts `vmm` with `kernel`, and ends it again. Gives the time from the
/// process' start to the first line on its standard output.
///
/// # Errors
/// The VMM cannot be started, or ends before.
pub fn time(vmm: &Path, kernel: &Path) -> Result<Duration> {
    let mut command = Command::new(vmm);
    command
        .arg("--kernel")
        .arg(kernel)
        .args(["--memory", MEMORY, "--cmdline", COMMAND_LINE]);
    until_said(&mut command, WORDS)
}

/// The time until `command` says `words`.
fn until_said(command: &mut Command, words: &[u8]) -> Result<Duration> {
    let program = command.get_program().display().to_string();
    let start = Instant::now();
    let mut running = Running(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?,
    );
    let mut output = running.0.stdout.take().context("it has no output")?;
    let (mut said, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let count = output
            .read(&mut piece)
            .with_context(|| format!("{program} is lost"))?;
        if count == 0 {
            let status = running.0.wait()?;
            bail!("{program} ended before its kernel spoke ({status})");
        }
        said.extend_from_slice(piece.get(..count).unwrap_or_default());
        if said.windows(words.len()).any(|window| window == words) {
            return Ok(start.elapsed());
        }
    }
}

/// Does not outlive its handle.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and need not.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_heard_in_whatever_pieces_they_come() {
        let mut shell = Command::new("sh");
        let script = "printf Lin; sleep 0.1; printf 'ux version 7\\n'; exec sleep 600";
        let time = until_said(shell.args(["-c", script]), WORDS).unwrap();
        assert!(time >= Duration::from_millis(100), "{time:?}");
    }

    #[test]
    fn a_program_that_does_not_say_it_is_an_error() {
        let mut shell = Command::new("sh");
        let error = until_said(shell.args(["-c", "echo nothing; exit 3"]), WORDS);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
    }
}
