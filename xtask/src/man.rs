// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask man`: the daemon's man page, made from its command line.

use crate::project;
use anyhow::Context;
use anyhow::Result;

/// `cargo xtask man`. Without the feature `man`, which needs all of the
/// daemon, this program builds itself with it and runs that.
pub(crate) fn command() -> Result<()> {
    let dir = project::made()?.join("man");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let page = dir.join("vhost-user-tmem.1");
    render(&page)
}

#[cfg(feature = "man")]
fn render(page: &std::path::Path) -> Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(vhost_user_tmem::cli::command())
        .render(&mut text)
        .context("cannot render the man page")?;
    std::fs::write(page, text).with_context(|| format!("cannot write {}", page.display()))?;
    println!("{}", page.display());
    Ok(())
}

#[cfg(not(feature = "man"))]
fn render(_: &std::path::Path) -> Result<()> {
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
