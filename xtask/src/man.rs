// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask man`: the programs' man pages, made from their command lines.

use crate::project;
use anyhow::Context;
use anyhow::Result;
use std::path::Path;

/// `cargo xtask man`. Without the feature `man`, which needs all of the
/// programs, this program builds itself with it and runs that.
pub(crate) fn command() -> Result<()> {
    let dir = project::made()?.join("man");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    render(&dir)
}

#[cfg(feature = "man")]
fn render(dir: &Path) -> Result<()> {
    for command in [
        vhost_user_tmem::cli::command(),
        tmem_vmm::cli::command(),
        tmemctl::cli::command(),
    ] {
        // One page for the program, and one for each of its subcommands.
        let name = command.get_name().to_string();
        clap_mangen::generate_to(command, dir)
            .with_context(|| format!("cannot make man pages of {name}"))?;
        println!("{}", dir.join(format!("{name}.1")).display());
    }
    Ok(())
}

#[cfg(not(feature = "man"))]
fn render(_: &Path) -> Result<()> {
    crate::exec::shown(project::cargo().args([
        "run",
        "--quiet",
        "--package",
        "xtask",
        "--features",
        "man",
        "man",
    ]))
}
