// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The program: `load files`, `load blocks`, `load check`, `load scribble`, `load reads`.

use anyhow::Context;
use anyhow::Result;
use clap::Parser;
use clap::Subcommand;
use std::path::PathBuf;
use std::time::Duration;
use tmem_load::blocks;
use tmem_load::control;
use tmem_load::control::Orders;
use tmem_load::control::WrongBytes;
use tmem_load::files;
use tmem_load::journal;
use tmem_load::reads;
use tmem_load::scribble;

/// Load for file systems and disks that knows what every byte must be
///
/// Prints one JSON object a line. SIGUSR1 has it read and compare everything
/// from the disk, SIGTERM ends it after doing so. Ends with 1 if a byte is
/// wrong, and with 2 if something cannot be done.
#[derive(Parser)]
#[command(name = "load")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Use a mounted file system.
    Files {
        /// A directory of it.
        directory: PathBuf,
        /// From which everything follows.
        #[arg(long)]
        seed: u32,
        /// For how long.
        #[arg(long)]
        seconds: u64,
        /// All files together, in MiB.
        #[arg(long, default_value_t = 48)]
        size_mib: u64,
        /// Threads, each with files of its own.
        #[arg(long, default_value_t = 3)]
        threads: u32,
    },
    /// Use a block device; what is on it is lost.
    Blocks {
        /// The device.
        device: PathBuf,
        /// From which everything follows.
        #[arg(long)]
        seed: u32,
        /// For how long.
        #[arg(long)]
        seconds: u64,
        /// Only so much of the device, in MiB.
        #[arg(long)]
        size_mib: Option<u64>,
        /// Threads that write, each in a region of its own.
        #[arg(long, default_value_t = 2)]
        writers: u32,
        /// Threads that read anywhere.
        #[arg(long, default_value_t = 2)]
        readers: u32,
        /// Write the model here at each check.
        #[arg(long)]
        model: Option<PathBuf>,
    },
    /// Have everything flushed, and note what is durable: for power cuts.
    Journal {
        /// A directory of a mounted file system.
        directory: PathBuf,
        /// A block device of zeros for the notes.
        acks: PathBuf,
        /// From which everything follows.
        #[arg(long)]
        seed: u32,
        /// For how long.
        #[arg(long)]
        seconds: u64,
    },
    /// Compare what is there after a power cut with the notes.
    Recovered {
        /// The directory.
        directory: PathBuf,
        /// The block device with the notes.
        acks: PathBuf,
        /// Of the load.
        #[arg(long)]
        seed: u32,
    },
    /// Compare a block device with a model that `load blocks` has written.
    Check {
        /// The device, or an image of it.
        device: PathBuf,
        /// The model.
        #[arg(long)]
        model: PathBuf,
        /// Where on the device it begins, in bytes.
        #[arg(long, default_value_t = 0)]
        offset: u64,
    },
    /// Read pages of a block device, some of them often.
    Reads {
        /// The device.
        device: PathBuf,
        /// From which everything follows.
        #[arg(long)]
        seed: u32,
        /// Pages read.
        #[arg(long)]
        reads: u64,
        /// Those that are read often, in MiB.
        #[arg(long)]
        hot_mib: u64,
    },
    /// Read a block device, and write to the buffer while the disk fills it.
    Scribble {
        /// The device.
        device: PathBuf,
        /// For how long.
        #[arg(long)]
        seconds: u64,
    },
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Files {
            directory,
            seed,
            seconds,
            size_mib,
            threads,
        } => {
            let options = files::Options {
                directory,
                seed,
                seconds,
                size_mib,
                threads,
                drop_caches: true,
            };
            files::run(&options, &Orders::from_signals()?)
        }
        Command::Blocks {
            device,
            seed,
            seconds,
            size_mib,
            writers,
            readers,
            model,
        } => {
            let options = blocks::Options {
                device,
                seed,
                seconds,
                size_mib,
                writers,
                readers,
                model,
                drop_caches: true,
            };
            blocks::run(&options, &Orders::from_signals()?)
        }
        Command::Journal {
            directory,
            acks,
            seed,
            seconds,
        } => {
            let options = journal::Options {
                directory,
                acks,
                seed,
                seconds,
            };
            journal::run(&options, &Orders::from_signals()?)
        }
        Command::Recovered {
            directory,
            acks,
            seed,
        } => {
            let (count, wrong) = journal::check(&directory, &acks, seed)?;
            if !wrong.is_empty() {
                let text = format!("of {count} acknowledgments: {}", wrong.join("; "));
                return Err(WrongBytes(text).into());
            }
            println!("{count} acknowledgments hold");
            Ok(())
        }
        Command::Check {
            device,
            model,
            offset,
        } => {
            let text = std::fs::read(&model)
                .with_context(|| format!("cannot read {}", model.display()))?;
            let model = serde_json::from_slice(&text).context("the model is damaged")?;
            // Between the device and this there must be nothing.
            control::drop_caches().context("cannot drop the caches")?;
            let (wrong, texts) = blocks::check(&device, offset, &model)?;
            if wrong > 0 {
                let text = format!("{wrong} sectors are wrong: {}", texts.join("; "));
                return Err(WrongBytes(text).into());
            }
            println!("{} bytes are right", model.size());
            Ok(())
        }
        Command::Reads {
            device,
            seed,
            reads,
            hot_mib,
        } => reads::run(&reads::Options {
            device,
            seed,
            reads,
            hot_mib,
        }),
        Command::Scribble { device, seconds } => {
            let read = scribble::run(&device, Duration::from_secs(seconds))?;
            println!("{read} bytes were read");
            Ok(())
        }
    }
}

fn main() {
    if let Err(error) = run(Cli::parse().command) {
        control::fail(&error);
    }
}
