// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The program in the guest: `work files`, `work scan`, `work serve`, …

use anyhow::Result;
use clap::Parser;
use clap::Subcommand;
use serde::Serialize;
use std::path::PathBuf;
use tmem_work::database;
use tmem_work::files;
use tmem_work::service;

/// What a guest does while it is measured
///
/// Prints what was read, and how long it took, as a JSON object.
#[derive(Parser)]
#[command(name = "work")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read all files of a tree, in a random order.
    Files {
        /// Its top directory.
        top: PathBuf,
        /// From which the order follows.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Make a database.
    Make {
        /// The database.
        path: PathBuf,
        /// How large, in MiB.
        #[arg(long)]
        mib: u64,
    },
    /// Look for damage in a database.
    Check {
        /// The database.
        path: PathBuf,
    },
    /// Be a service that has documents in memory, and uses them when asked.
    Serve {
        /// How many, in MiB.
        #[arg(long)]
        mib: u64,
        /// From which their content follows.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Where one asks.
        socket: PathBuf,
    },
    /// Have a service use all that it has.
    Use {
        /// Where one asks.
        socket: PathBuf,
    },
    /// Read all rows of a database.
    Scan {
        /// The database.
        path: PathBuf,
    },
    /// Read random rows of a database.
    Read {
        /// The database.
        path: PathBuf,
        /// How many.
        #[arg(long)]
        count: u64,
        /// From which they follow.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Files { top, seed } => print(&files::read(&top, seed)?),
        Command::Make { path, mib } => database::make(&path, mib),
        Command::Check { path } => database::check(&path),
        Command::Scan { path } => print(&database::scan(&path)?),
        Command::Read { path, count, seed } => print(&database::read(&path, count, seed)?),
        Command::Serve { mib, seed, socket } => service::run(mib, seed, &socket),
        Command::Use { socket } => print(&service::ask(&socket)?),
    }
}

fn print(outcome: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(outcome)?);
    Ok(())
}
