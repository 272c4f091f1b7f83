// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs end-to-end tests, each in a process of its own, some at a time, with the time that each took.
//! What others cover for a good part comes last, and only while there is time: a slow machine leaves
//! it out, and says so.

use crate::e2e;
use crate::e2e::PARALLEL;
use crate::exec;
use crate::project;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;
use tmem_e2e::Assets;

/// How the names of tests begin that come last, the least important at the end: each takes minutes
/// where the machine is slow.
const LAST: &[&str] = &[
    "neighbours::",
    "packages::",
    "spill::",
    "blk::swap::",
    "nested::outer::",
    // Two Debian systems with systemd; one more is in `blk::installed`.
    "debian::",
    "filter::swap::",
    "hibernation::",
    "blk::reported::",
    "filter::stress::",
    "blk::musl::",
    // Guests in guests, where this machine's KVM runs no stock kernel.
    "nested::",
];

/// What came of the tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Those for which there was no time.
    pub(crate) left_out: Vec<String>,
}

/// The program with the tests, and where it is to run.
struct Tests {
    program: PathBuf,
    assets: PathBuf,
}

/// Runs all tests on `assets`, and begins with none of the last after `until`.
///
/// # Errors
/// When there are none, or they cannot be run.
pub(crate) fn all(assets: &Assets, until: Instant) -> Result<Outcome> {
    let file = project::made()?.join("assets.json");
    assets.write(&file)?;
    let tests = Tests {
        program: program()?,
        assets: file,
    };
    let listed = exec::output(tests.command().args(["--list", "--format", "terse"]))?;
    let names: Vec<_> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let ignored = exec::output(
        tests
            .command()
            .args(["--list", "--format", "terse", "--ignored"]),
    )?;
    let is_ignored = |name: &str| {
        ignored
            .lines()
            .any(|line| line.strip_suffix(": test") == Some(name))
    };
    let wanted = names.into_iter().filter(|name| !is_ignored(name));
    let queue = ordered(wanted.map(str::to_owned));
    if queue.is_empty() {
        bail!("there are no end-to-end tests");
    }
    run(&tests, queue, until)
}

/// The place of a test among the last; `None`: it comes before them.
fn place(name: &str) -> Option<usize> {
    LAST.iter().position(|last| name.starts_with(last))
}

fn ordered(names: impl Iterator<Item = String>) -> VecDeque<String> {
    let mut names: Vec<_> = names.collect();
    // The order is otherwise as it was.
    names.sort_by_key(|name| place(name).map_or(0, |place| place + 1));
    names.into()
}

fn run(tests: &Tests, queue: VecDeque<String>, until: Instant) -> Result<Outcome> {
    let (start, outcome) = (Instant::now(), Mutex::new(Outcome::default()));
    println!("running {} tests, {PARALLEL} at a time", queue.len());
    let queue = Mutex::new(queue);
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    };
    let work = || -> Result<()> {
        while let Some(name) = next() {
            if place(&name).is_some() && Instant::now() >= until {
                let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                println!("test {name} ... left out for want of time");
                outcome.left_out.push(name);
                continue;
            }
            let began = Instant::now();
            println!("test {name} begins ({} s)", start.elapsed().as_secs());
            let output = tests.run(&name)?;
            let (took, at) = (began.elapsed().as_secs(), start.elapsed().as_secs());
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            if output.status.success() {
                outcome.passed += 1;
                println!("test {name} ... ok (took {took} s, at {at} s)");
            } else {
                outcome.failed += 1;
                println!("{}", String::from_utf8_lossy(&output.stdout));
                println!("{}", String::from_utf8_lossy(&output.stderr));
                println!("test {name} ... FAILED (took {took} s, at {at} s)");
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            let worked = worker.join();
            worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(outcome.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Where cargo has put the program.
fn program() -> Result<PathBuf> {
    let mut build = e2e::build();
    build.args(["--no-run", "--message-format", "json"]);
    let messages = exec::output(build.stderr(Stdio::inherit()))?;
    let found = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message.pointer("/target/name")? == "e2e";
        let path = message.get("executable")?.as_str().filter(|_| is_it)?;
        Some(PathBuf::from(path))
    });
    found.context("cargo does not say where the end-to-end tests are")
}

impl Tests {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(project::root().join("tests"))
            .env(Assets::VARIABLE, &self.assets)
            // Errors say what was waited for; where in the test does not matter.
            .env("RUST_BACKTRACE", "0");
        command
    }

    fn run(&self, name: &str) -> Result<Output> {
        let mut command = self.command();
        command.args([name, "--exact"]).stdin(Stdio::null());
        command.output().context("cannot run an end-to-end test")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_left_out_comes_last() {
        let names = [
            "blk::musl::one",
            "blk::raw::two",
            "debian::three",
            "watching::four",
        ];
        let ordered: Vec<_> = ordered(names.into_iter().map(str::to_owned)).into();
        assert_eq!(
            ordered,
            [
                "blk::raw::two",
                "watching::four",
                "debian::three",
                "blk::musl::one"
            ]
        );
    }
}
