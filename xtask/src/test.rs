// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask test`: everything that must hold.

use crate::assets;
use crate::assets::Guests;
use crate::dkms;
use crate::e2e;
use crate::each;
use crate::exec;
use crate::lints;
use crate::programs;
use crate::programs::Profile;
use crate::project;
use crate::recipes;
use crate::setup;
use crate::setup::Setup;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::io::BufRead;
use std::io::BufReader;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::Assets;

/// When none is begun any more of the end-to-end tests that may be left out.
const LAST: Duration = Duration::from_secs(65 * 60);

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

    lints::is_formatted(&step)?;
    let setup = setup::ensure(false)?;
    let (left_out, assets) = made_and_checked(&setup, &step)?;
    // Others may use the cache meanwhile.
    drop(setup);

    step("unit and documentation tests");
    let units = count(&mut units())?;

    step("interleavings of threads in the store");
    let interleavings = count(interleavings().arg("interleavings"))?;

    step("end-to-end tests");
    let guests = each::all(&assets, start + LAST)?;
    let in_guests = Counts {
        passed: guests.passed,
        failed: guests.failed,
    };

    let all = [units, interleavings, in_guests];
    let passed: u64 = all.iter().map(|counts| counts.passed).sum();
    let failed: u64 = all.iter().map(|counts| counts.failed).sum();
    step("done");
    println!("{passed} passed, {failed} failed");
    if let Some(left_out) = left_out {
        println!("not checked: {left_out}");
    }
    for name in &guests.left_out {
        println!("left out for want of time: {name}; cargo xtask e2e {name}");
    }
    if failed > 0 {
        bail!("{failed} tests failed; their output is above");
    }
    Ok(())
}

/// What could not be checked, and what the end-to-end tests need. Checks and tests are built, and
/// what is installed, packed or started in guests is made beside them: much of that waits, or uses
/// one CPU. When tests run, nothing else does.
fn made_and_checked(
    setup: &Setup,
    step: &(dyn Fn(&str) + Sync),
) -> Result<(Option<String>, Assets)> {
    std::thread::scope(|scope| {
        let made = scope.spawn(|| made(setup, step).inspect_err(shown));
        let checked = checked(setup, step).inspect_err(shown);
        let made = made.join();
        let made = made.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((checked?, made?))
    })
}

/// The other half may go on for minutes.
fn shown(error: &anyhow::Error) {
    println!("error: {error:#}");
}

fn checked(setup: &Setup, step: &dyn Fn(&str)) -> Result<Option<String>> {
    let left_out = lints::all(setup, step)?;
    step("building the tests");
    exec::shown(programs::tests().arg("--no-run"))?;
    exec::shown(e2e::build().arg("--no-run"))?;
    Ok(left_out)
}

fn made(setup: &Setup, step: &dyn Fn(&str)) -> Result<Assets> {
    step("the guest module in DKMS");
    dkms::check(setup)?;

    step("building what runs in guests");
    programs::for_guests()?;

    step("recipes for VMMs");
    recipes::check(setup)?;

    step("making guests and packages");
    let daemon = programs::daemon_of(Profile::Dev)?;
    let all = Guests::All { packages: true };
    let assets = assets::make_beside(setup, daemon, Profile::Dev, all)?;
    exec::shown(interleavings().arg("--no-run"))?;
    Ok(assets)
}

/// What needs no guests. As many tests at a time as there are CPUs: the store's background threads
/// have work of their own to do meanwhile.
fn units() -> Command {
    let mut command = programs::tests();
    command.arg("--no-fail-fast");
    command
}

/// The tests that a scheduler of its own runs. It takes the place of the standard
/// library's locks, so that the store is built anew for it.
fn interleavings() -> Command {
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = project::cargo();
    command
        .args(["test", "--package", "tmem-store", "--lib", "--no-fail-fast"])
        .args(["--target-dir", "target/shuttle"])
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
