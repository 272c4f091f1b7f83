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
    for command in [vhost_user_tmem::cli::command(), tmem_vmm::cli::command()] {
        let page = dir.join(format!("{}.1", command.get_name()));
        let mut text = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut text)
            .context("cannot render a man page")?;
        std::fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))?;
        println!("{}", page.display());
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
