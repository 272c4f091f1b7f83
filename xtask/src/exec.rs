// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs programs: long ones with a log and progress lines, short ones for
//! their output.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::collections::VecDeque;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

/// Silence on the terminal after which a running program is mentioned again.
const QUIET: Duration = Duration::from_secs(10);

/// Lines of a failed program's output that go into the error.
const TAIL: usize = 15;

/// Runs `command` to its end with all output in the file `log`.
///
/// `progress` picks from each line what is worth showing, prefixed with
/// `label` and the seconds since the start.
pub(crate) fn logged(
    label: &str,
    command: &mut Command,
    log: &Path,
    progress: impl Fn(&str) -> Option<String>,
) -> Result<()> {
    let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let start = Instant::now();
    let say = |text: &str| println!("  {label}: {text} ({} s)", start.elapsed().as_secs());

    let (output, write_end) = std::io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null());
    command.stdout(write_end.try_clone().context("cannot make a pipe")?);
    command.stderr(write_end);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    // The command holds our copies of the pipe's write end.
    command.stdout(Stdio::null());
    command.stderr(Stdio::null());

    let (send, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(|l| l.ok()) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    let mut tail = VecDeque::new();
    loop {
        match lines.recv_timeout(QUIET) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line).into_owned();
                writeln!(file, "{line}").context("cannot write the log")?;
                if let Some(text) = progress(&line) {
                    say(&text);
                }
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(line);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => say("still at it"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let _ = reader.join();
    let status = child.wait().with_context(|| format!("{program} is lost"))?;
    if !status.success() {
        let tail: Vec<String> = tail.into();
        bail!(
            "{label}: {program} failed ({status}); its last lines:\n{}\nThe whole log: {}",
            tail.join("\n"),
            log.display()
        );
    }
    Ok(())
}

/// Runs a short `command` and gives back what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} printed no text"))
}

/// Runs `command` with this program's own output, for people to watch.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
        bail!("`{program} {}` failed ({status})", arguments.join(" "));
    }
    Ok(())
}
