// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Everything a person or CI runs: `cargo xtask setup`, `demo`, `test`, …
//!
//! What a command needs beyond Rust (a Debian root to build the guest module
//! in, QEMU, the guest's kernel) is made by `setup` in a cache outside the
//! checkout; every other command calls it first.

mod apt;
mod archive;
#[cfg(test)]
mod arrows;
mod assets;
mod bench;
mod busybox;
mod cache;
mod checkers;
mod demo;
mod deny;
mod disk;
mod dkms;
mod e2e;
mod each;
mod exec;
mod guest;
mod headers;
mod host;
mod image;
mod initramfs;
mod kernel;
mod lints;
mod man;
mod mirror;
mod modules;
mod outer;
mod package;
mod programs;
mod project;
mod recipes;
mod roots;
mod setup;
mod soak;
mod sources;
#[cfg(test)]
mod spec;
mod stable;
mod stock;
mod test;
mod uml_kernel;
mod versions;

use clap::Parser;
use clap::Subcommand;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything a person or CI runs")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make what the other commands need: a Debian root to build the guest
    /// module in, QEMU, and the guest's kernel. Cached.
    Setup(setup::Options),
    /// Show a stock guest with too little memory swap into the host.
    Demo(demo::Options),
    /// Run every check and every test, the end-to-end ones included.
    Test,
    /// Measure the store, the daemon and the VMM beside their peers.
    Bench(bench::Options),
    /// Build the guest module for the stock Debian kernel, and tmemctl.
    Guest,
    /// Check format, lints and dependencies of everything, the guest module
    /// included, or format the guest module.
    Lints(lints::Options),
    /// Try the guest module in DKMS, on a Debian 13 that gets a new kernel.
    Dkms,
    /// Try the recipes for libvirt, systemd and Kata with the real programs.
    Recipes,
    /// Make a small Debian system to try the VMM with.
    Image(image::Options),
    /// Run the end-to-end tests only.
    E2e(e2e::Options),
    /// Run the filter's end-to-end tests for long, with other random choices
    /// each time.
    Soak(soak::Options),
    /// Run the guest module on a kernel with lockdep and KASAN. Builds that
    /// kernel first, which takes long.
    Checkers(checkers::Options),
    /// Render the programs' man pages and completions for shells.
    Man,
    /// Make Debian packages of the programs and the guest module.
    Package(package::Options),
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Setup(options) => setup::command(options),
        Command::Demo(options) => demo::command(options),
        Command::Test => test::command(),
        Command::Bench(options) => bench::command(options),
        Command::Guest => guest::command(),
        Command::Lints(options) => lints::command(options),
        Command::Dkms => dkms::command(),
        Command::Recipes => recipes::command(),
        Command::Image(options) => image::command(options),
        Command::E2e(options) => e2e::command(options),
        Command::Soak(options) => soak::command(options),
        Command::Checkers(options) => checkers::command(options),
        Command::Man => man::command(),
        Command::Package(options) => package::command(options),
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
