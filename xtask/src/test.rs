// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask test`: everything that must hold.

use crate::dkms;
use crate::e2e;
use crate::lints;
use crate::programs::Profile;
use crate::project;
use crate::recipes;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::io::BufRead;
use std::io::BufReader;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

/// Tests that have run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// `cargo xtask test`.
pub(crate) fn command() -> Result<()> {
    let start = Instant::now();
    let step = |what: &str| println!("==== {what} ({} s)", start.elapsed().as_secs());

    let left_out = lints::all(&step)?;

    step("the guest module in DKMS");
    dkms::command()?;

    step("recipes for VMMs");
    recipes::command()?;

    step("unit and documentation tests");
    let mut units = project::cargo();
    units.args(["test", "--workspace", "--no-fail-fast"]);
    let units = count(&mut units)?;

    step("interleavings of threads in the store");
    let interleavings = count(&mut interleavings())?;

    step("end-to-end tests");
    let guests = count(&mut e2e::tests(Profile::Dev, None)?)?;

    let all = [units, interleavings, guests];
    let passed: u64 = all.iter().map(|counts| counts.passed).sum();
    let failed: u64 = all.iter().map(|counts| counts.failed).sum();
    step("done");
    println!("{passed} passed, {failed} failed");
    if let Some(left_out) = left_out {
        println!("not checked: {left_out}");
    }
    if failed > 0 {
        bail!("{failed} tests failed; their output is above");
    }
    Ok(())
}

/// The tests that a scheduler of its own runs. It takes the place of the standard
/// library's locks, so that the store is built anew for it.
fn interleavings() -> Command {
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = project::cargo();
    command
        .args(["test", "--package", "tmem-store", "--lib", "--no-fail-fast"])
        .args(["--target-dir", "target/shuttle", "interleavings"])
        .env("RUSTFLAGS", format!("{flags} --cfg shuttle"));
    command
}

/// Runs a `cargo test`, shows its output and counts the tests in it.
fn count(command: &mut Command) -> Result<Counts> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what cargo prints")?;
        println!("{line}");
        if let Some(more) = result(&line) {
            counts.passed += more.passed;
            counts.failed += more.failed;
        }
    }
    let status = child.wait().context("cargo is lost")?;
    if !status.success() && counts.failed == 0 {
        bail!("the tests could not be built or run to their end ({status})");
    }
    Ok(counts)
}

/// The counts in a line such as
/// `test result: ok. 9 passed; 0 failed; 0 ignored; …`.
fn result(line: &str) -> Option<Counts> {
    let line = line.strip_prefix("test result: ")?;
    let (_, counts) = line.split_once(". ")?;
    let number = |name: &str| -> Option<u64> {
        counts
            .split("; ")
            .find_map(|part| part.strip_suffix(name)?.trim().parse().ok())
    };
    Some(Counts {
        passed: number("passed")?,
        failed: number("failed")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        assert_eq!(
            result("test result: FAILED. 7 passed; 2 failed; 1 ignored; 0 measured"),
            Some(Counts {
                passed: 7,
                failed: 2
            })
        );
        assert_eq!(result("test a::b ... ok"), None);
    }
}
