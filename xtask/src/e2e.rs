// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask e2e`: real guests on a real daemon.

use crate::assets;
use crate::assets::Guests;
use crate::exec;
use crate::programs;
use crate::programs::Profile;
use crate::project;
use anyhow::Result;
use std::process::Command;
use std::process::Stdio;
use tmem_e2e::Assets;

/// Guests at a time: each keeps more than one CPU busy.
pub(crate) const PARALLEL: usize = 2;

/// How the names of tests begin that need guests with stable kernels only, which are made soon.
const STOCK: &str = "blk::";

/// How the names of tests begin that need guests of VMMs only.
const NESTED: &str = "nested::";

/// How the names of tests begin that need a guest with disks, and a daemon in it.
const FAILING_AREA: &str = "failing_area::";

/// How the names of tests begin that install packages: those of programs, which take minutes to
/// build, and the one for guests with stable kernels.
const INSTALLING: &str = "packages::";
const STOCK_INSTALLING: &str = "blk::installed::";

/// Options of `cargo xtask e2e`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run only tests whose name contains this.
    filter: Option<String>,
    /// Run the daemon as it is shipped, without debug assertions.
    #[arg(long)]
    release: bool,
    /// Run those tests that are left out otherwise, because they take long or need what cannot be
    /// installed.
    #[arg(long, requires = "filter")]
    ignored: bool,
    /// Parameters for the guest's module in each test, such as "stage_pages=512".
    #[arg(long, value_name = "PARAMETERS")]
    module: Option<String>,
}

/// `cargo xtask e2e`.
pub(crate) fn command(options: &Options) -> Result<()> {
    let profile = if options.release {
        Profile::Release
    } else {
        Profile::Dev
    };
    let mut tests = tests(profile, options.filter.as_deref())?;
    if options.ignored {
        tests.arg("--ignored");
    }
    if let Some(parameters) = &options.module {
        tests.env(Assets::PARAMETERS, parameters);
    }
    exec::shown(&mut tests)
}

/// The command that runs the tests, with all they need made.
pub(crate) fn tests(profile: Profile, filter: Option<&str>) -> Result<Command> {
    let assets = assets::make(profile, guests(filter)?)?;
    let file = project::made()?.join("assets.json");
    assets.write(&file)?;
    let mut cargo = chosen(filter);
    cargo
        .env("RUST_TEST_THREADS", PARALLEL.to_string())
        .env(Assets::VARIABLE, file)
        // Errors say what was waited for; where in the test does not matter.
        .env("RUST_BACKTRACE", "0");
    Ok(cargo)
}

/// The command for the tests whose names contain `filter`.
fn chosen(filter: Option<&str>) -> Command {
    let mut cargo = build();
    cargo.arg("--").args(filter);
    cargo
}

/// The command that builds the tests, or runs them with what follows.
pub(crate) fn build() -> Command {
    let mut cargo = programs::tests();
    cargo.args(["--features", "tmem-e2e/guests", "--test", "e2e"]);
    cargo
}

/// What guests the tests need whose names contain `filter`.
fn guests(filter: Option<&str>) -> Result<Guests> {
    let Some(filter) = filter else {
        return Ok(Guests::All { packages: true });
    };
    let mut list = chosen(Some(filter));
    // The tests may have to be built first.
    let listed = exec::output(list.arg("--list").stderr(Stdio::inherit()))?;
    Ok(guests_for(&listed))
}

/// What guests the tests in a list need, as the test program prints it.
fn guests_for(listed: &str) -> Guests {
    let names = || listed.lines().filter(|line| line.ends_with(": test"));
    let begin = |with: &str| names().any(|name| name.starts_with(with));
    let installed = begin(STOCK_INSTALLING);
    if begin(STOCK) && names().all(|name| name.starts_with(STOCK)) {
        return Guests::Stock { installed };
    }
    if begin(NESTED) && names().all(|name| name.starts_with(NESTED)) {
        return Guests::Vmm;
    }
    if begin(FAILING_AREA) && names().all(|name| name.starts_with(FAILING_AREA)) {
        return Guests::FailingArea;
    }
    Guests::All {
        packages: installed || begin(INSTALLING),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_for_tests_that_install_them() {
        let swap = "swap::all_is_found: test\n";
        let installing = "packages::daemon_is_installed: test\n";
        let stock = "blk::swap: test\n";
        let nested = "nested::disk: test\n";
        let system = "blk::installed::it_swaps: test\n";
        let area = "failing_area::it_fails: test\n";
        let end = "\n1 tests, 0 benchmarks\n";
        for (listed, guests) in [
            (vec![swap, end], Guests::All { packages: false }),
            (vec![swap, installing, end], Guests::All { packages: true }),
            (vec![stock, end], Guests::Stock { installed: false }),
            (vec![stock, system, end], Guests::Stock { installed: true }),
            (vec![nested, nested, end], Guests::Vmm),
            (vec![nested, swap, end], Guests::All { packages: false }),
            (vec![area, end], Guests::FailingArea),
            (vec![area, swap, end], Guests::All { packages: false }),
            (vec![swap, system, end], Guests::All { packages: true }),
            (vec![stock, swap, end], Guests::All { packages: false }),
            (vec![end], Guests::All { packages: false }),
        ] {
            assert_eq!(guests_for(&listed.concat()), guests, "{listed:?}");
        }
    }
}
