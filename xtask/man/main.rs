// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Makes the programs' man pages and completions for shells out of their command lines, in the
//! folders `man` and `completions` of the directory that is named. `cargo xtask man` runs it.

use anyhow::Context;
use anyhow::Result;
use clap_complete::Shell;
use std::path::PathBuf;

fn main() -> Result<()> {
    let made = std::env::args_os()
        .nth(1)
        .context("no directory is named")?;
    let made = PathBuf::from(made);
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
