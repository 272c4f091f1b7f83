// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask man`: the programs' man pages and completions for shells, made from their
//! command lines.

use crate::project;
use anyhow::Context;
use anyhow::Result;
use std::path::Path;

/// `cargo xtask man`. Without the feature `man`, which needs all of the
/// programs, this program builds itself with it and runs that.
pub(crate) fn command() -> Result<()> {
    let made = project::made()?;
    for name in ["man", "completions"] {
        let dir = made.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    render(&made)
}

#[cfg(feature = "man")]
fn render(made: &Path) -> Result<()> {
    use clap_complete::Shell;

    let (man, completions) = (made.join("man"), made.join("completions"));
    for mut command in [
        vhost_user_tmem::cli::command(),
        tmem_vmm::cli::command(),
        tmemctl::cli::command(),
    ] {
        // One page for the program, and one for each of its subcommands.
        let name = command.get_name().to_string();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut command, &name, &completions)
                .with_context(|| format!("cannot make completions of {name}"))?;
        }
        // What `help` says is in the other pages.
        command = command
            .disable_help_subcommand(true)
            .mut_subcommands(|command| command.disable_help_subcommand(true));
        clap_mangen::generate_to(command, &man)
            .with_context(|| format!("cannot make man pages of {name}"))?;
        println!("{}", man.join(format!("{name}.1")).display());
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
