// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The program in the guest: `work files`, `work scan`, `work read`.

use anyhow::Result;
use clap::Parser;
use clap::Subcommand;
use std::path::PathBuf;
use tmem_work::database;
use tmem_work::files;

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
    let outcome = match Cli::parse().command {
        Command::Files { top, seed } => files::read(&top, seed)?,
        Command::Scan { path } => database::scan(&path)?,
        Command::Read { path, count, seed } => database::read(&path, count, seed)?,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
