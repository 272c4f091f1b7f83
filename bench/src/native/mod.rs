// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The module in a guest whose kernel runs at this machine's speed: pages of raw disks beside other
//! disks of the same guest, and files on disks that take their time.
//!
//! Page faults are many times slower there than on any other machine, so no program swaps.

mod files;
mod guest;
mod guests;
mod samples;
mod say;
mod subject;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use self::files::Files;
use self::guests::{Content, Guests, Variant};
use self::subject::{MEASURES, Subject};
use crate::corpus::Corpus;
use crate::machine;
use crate::report::{self, Report};
use crate::vhost;

/// Pages of each sort that disks are filled with; there are as many of files as of processes.
const PAGES: usize = 2048;

/// Pages of a disk that are read; as many behind them are written meanwhile.
const READ: u64 = 4096;

/// Rounds, and how much less of everything there is when it is to be quick.
const ROUNDS: u64 = 7;
const QUICK_ROUNDS: u64 = 2;
const QUICK_SHARE: u64 = 8;

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Of native: the guest's kernel, a program.
    #[arg(long, value_name = "PATH", default_value = "linux")]
    linux: PathBuf,
    /// Of native: the guest's initramfs.
    #[arg(long, value_name = "PATH", default_value = "native.cpio")]
    guest_initramfs: PathBuf,
    /// Of native: a module in the initramfs and its parameters, as NAME=/PATH[:PARAMETERS]; each is
    /// measured, and the first compared with.
    #[arg(long, value_name = "VARIANT")]
    variant: Vec<String>,
    /// Of native: rounds.
    #[arg(long)]
    rounds: Option<u64>,
    /// Of native: an option of our daemon.
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    daemon_option: Vec<String>,
    /// Of native: only this part.
    #[arg(long, value_enum)]
    part: Option<Part>,
    #[command(flatten)]
    files: files::Args,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Pages of raw disks.
    Raw,
    /// Files, through filters.
    Files,
}

/// Measures it.
pub(crate) fn run(
    args: &Args,
    peers: &vhost::Args,
    quick: bool,
    json: Option<&Path>,
) -> Result<()> {
    let work = tempfile::tempdir().context("cannot make a directory")?;
    let measured = measure(args, peers, quick, json, work.path());
    if measured.is_err() {
        // For the consoles that it tells of.
        let _ = work.keep();
    }
    measured
}

fn measure(
    args: &Args,
    peers: &vhost::Args,
    quick: bool,
    json: Option<&Path>,
    work: &Path,
) -> Result<()> {
    println!("{}", machine::describe());
    println!("load of this machine before: {}", report::load().trim());
    let corpus = Corpus::collect(PAGES)?;
    println!("{}", corpus.describe());
    let pages = corpus.mixed();
    let content = Content {
        pages: work.join("content"),
        count: pages.len(),
        files: files::image(&args.files, work, quick)?,
    };
    std::fs::write(&content.pages, pages.as_flattened()).context("cannot write the content")?;
    let variants: Result<Vec<_>> = args
        .variant
        .iter()
        .map(|text| Variant::parse(text))
        .collect();
    let mut guests = Guests::default();
    let mut subjects = Vec::new();
    for variant in variants? {
        let more = guests
            .add(&variant, args, peers, work, &content)
            .with_context(|| variant.to_string())?;
        subjects.extend(more);
    }
    let (rounds, share) = match quick {
        true => (args.rounds.unwrap_or(QUICK_ROUNDS), QUICK_SHARE),
        false => (args.rounds.unwrap_or(ROUNDS), 1),
    };
    let mut report = Report::default();
    if args.part != Some(Part::Files) {
        measure_raw(&mut subjects, &mut guests, rounds, share)?;
        say::raw(&subjects, &mut report);
    }
    if args.part != Some(Part::Raw) {
        let mut files = Files::make(&mut guests, &content.files)?;
        files.measure(&mut guests, rounds, share)?;
        files.say(&guests, &mut report);
    }
    guests.end()?;
    println!("\nload of this machine after: {}\n", report::load().trim());
    report.print_verdicts();
    if let Some(json) = json {
        report.write_json(json)?;
    }
    Ok(())
}

/// All measures of raw disks, and all disks of each in turn; again and again.
fn measure_raw(
    subjects: &mut [Subject],
    guests: &mut Guests,
    rounds: u64,
    share: u64,
) -> Result<()> {
    for round in 0..rounds {
        println!("round {} of {rounds}", round + 1);
        for which in 0..MEASURES.len() {
            for subject in &mut *subjects {
                let how = (READ, round, share);
                subject.measure(which, &mut guests.running, &guests.peers, how)?;
            }
        }
    }
    Ok(())
}
