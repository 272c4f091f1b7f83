// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! cargo-deny: licences, sources and versions of all dependencies, and the
//! advisories against them.

use crate::cache::Cache;
use crate::exec;
use crate::project;
use anyhow::Result;
use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;

/// The version that is installed.
const VERSION: &str = "0.20.2";

/// Checks that need nothing but the registry that Cargo itself uses.
const ALWAYS: &[&str] = &["bans", "licenses", "sources"];

/// Compiled crates between two lines that say so.
const CRATES_A_LINE: u32 = 50;

/// The cache's name of the program.
pub(crate) fn name() -> String {
    format!("cargo-deny-{VERSION}")
}

/// The program, built if it is not there.
pub(crate) fn program(cache: &Cache) -> Result<PathBuf> {
    let name = name();
    let dir = cache.entry(&name, |dir| {
        println!("building cargo-deny {VERSION} (once; 1 to 3 minutes, 30 MB)");
        let mut install = project::cargo();
        install
            // No configuration of the checkout applies.
            .current_dir(dir)
            .args(["install", "cargo-deny", "--locked", "--version", VERSION])
            // Without optimisation it is built in a third of the time, and the
            // checks still take less than a second.
            .args(["--debug", "--root", "."])
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "0")
            .env_remove("CARGO_TARGET_DIR");
        let crates = Cell::new(0_u32);
        exec::logged(&name, &mut install, &cache.log(&name), |line| {
            line.trim_start().strip_prefix("Compiling ")?;
            crates.set(crates.get() + 1);
            crates
                .get()
                .is_multiple_of(CRATES_A_LINE)
                .then(|| format!("{} crates compiled", crates.get()))
        })
    })?;
    Ok(dir.join("bin/cargo-deny"))
}

/// Checks the dependencies of all crates. Says what could not be checked.
///
/// The advisories are a Git repository on GitHub. Where that is out of reach
/// they are left out, because no change to this checkout can mend that, and so
/// is whether a crate was yanked, which is part of the same check.
pub(crate) fn check(cache: &Cache) -> Result<Option<String>> {
    let program = program(cache)?;
    let deny = || {
        let mut deny = Command::new(&program);
        deny.current_dir(project::root()).arg("--workspace");
        deny
    };
    let mut check = deny();
    check.args(["check", "--hide-inclusion-graph"]);
    let left_out = match exec::output(deny().args(["fetch", "db"])) {
        Ok(_) => None,
        Err(error) => {
            check.args(ALWAYS);
            let reason = format!("{error:#}");
            let reason = reason.lines().last().unwrap_or_default();
            Some(format!(
                "advisories and yanked crates: the advisory database cannot be fetched ({reason})"
            ))
        }
    };
    exec::shown(&mut check)?;
    Ok(left_out)
}
