// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Real files on disks that take their time, read alone and through filters.
//!
//! Before each reading the guest's page cache is emptied, and after it counters tell where its pages
//! came from: a reading that did not come from where it was to is an error.

mod counts;
mod reading;
mod say;
mod step;
mod volume;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::reading::Reading;
use self::step::Way;
use self::volume::{Amount, Volume};
use super::Guests;
use super::samples::Rounds;
use crate::image::{self, Layout};
use crate::report::Report;

/// A local disk, and a volume of a cloud.
const FAST: Duration = Duration::from_micros(80);
const SLOW: Duration = Duration::from_millis(1);

/// Of files, in MiB; and less, if it is to be quick.
const FILES_MIB: u64 = 48;
const QUICK_FILES_MIB: u64 = 24;

/// The largest file that is taken, in bytes.
const LARGEST: u64 = 4 << 20;

/// Pieces that are read from random places.
const PIECES: u64 = 2048;

/// Where the guest has the image.
pub(super) const IMAGE: &str = "/dev/ubdb";

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Of native: where files are taken from.
    #[arg(long, value_name = "DIR", default_value = "/usr/lib")]
    files: PathBuf,
    /// Of native: mke2fs; once for each word of the command.
    #[arg(
        long,
        value_name = "WORD",
        allow_hyphen_values = true,
        default_value = "mke2fs"
    )]
    mke2fs: Vec<OsString>,
}

/// Makes the image of a file system in the directory `work`.
pub(super) fn image(args: &Args, work: &Path, quick: bool) -> Result<PathBuf> {
    let (tree, image) = (work.join("files"), work.join("files.raw"));
    let mib = if quick { QUICK_FILES_MIB } else { FILES_MIB };
    image::choose(&args.files, &tree, mib << 20, LARGEST)?;
    let layout = Layout {
        room_mib: 0,
        has_journal: false,
    };
    image::format(&args.mke2fs, &tree, layout, &image)?;
    std::fs::remove_dir_all(&tree).context("cannot remove what the image has")?;
    Ok(image)
}

/// What was measured of a step, and on which way.
struct Row {
    way: Way,
    step: usize,
    rounds: Rounds<Reading>,
}

/// A disk with its time, in a guest.
struct Subject {
    guest: usize,
    latency: Duration,
    volume: Volume,
    rows: Vec<Row>,
    /// Readings that it took at most until the host had the files, beside those that are measured.
    fills: u64,
}

/// All disks of all guests.
pub(super) struct Files(Vec<Subject>);

impl Files {
    /// Makes them, of what guests have as [`IMAGE`].
    pub(super) fn make(guests: &mut Guests, image: &Path) -> Result<Self> {
        let bytes = image.metadata().context("there is no image")?.len();
        let mut subjects = Vec::new();
        for (number, guest) in guests.running.iter_mut().enumerate() {
            for (place, latency) in [FAST, SLOW].into_iter().enumerate() {
                let mib = bytes.div_ceil(1 << 20);
                let volume = Volume::make(guest, place, latency, Path::new(IMAGE), mib)?;
                let rows = Way::ALL.iter().flat_map(|way| {
                    (0..way.steps().len()).map(|step| Row {
                        way: *way,
                        step,
                        rounds: Rounds::default(),
                    })
                });
                subjects.push(Subject {
                    guest: number,
                    latency,
                    volume,
                    rows: rows.collect(),
                    fills: 0,
                });
            }
        }
        Ok(Self(subjects))
    }

    /// All ways and steps of all disks, again and again; a `share` of the pieces.
    pub(super) fn measure(&mut self, guests: &mut Guests, rounds: u64, share: u64) -> Result<()> {
        for round in 0..rounds {
            println!("files, round {} of {rounds}", round + 1);
            let amount = Amount {
                pieces: usize::try_from(PIECES / share)?,
                seed: round,
            };
            for subject in &mut self.0 {
                for way in step::in_turn(round) {
                    subject.measure(guests, way, amount).with_context(|| {
                        format!("a disk of {:?}, {}", subject.latency, way.name())
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Prints it, with metrics and targets for the report.
    pub(super) fn say(&self, guests: &Guests, report: &mut Report) {
        for subject in &self.0 {
            if let Some(name) = guests.names.get(subject.guest) {
                say::subject(subject, name, subject.guest == 0, report);
            }
        }
    }
}

impl Subject {
    /// All steps of a way.
    fn measure(&mut self, guests: &mut Guests, way: Way, amount: Amount) -> Result<()> {
        let peer = guests.device_of(self.guest)?;
        let guest = guests.running.get_mut(self.guest);
        let guest = guest.context("no such guest")?;
        self.volume.evict(guest, Way::Alone)?;
        self.volume.attach(guest, way)?;
        for (number, step) in way.steps().iter().enumerate() {
            match step.source {
                counts::Source::Any => self.volume.evict(guest, way)?,
                counts::Source::Host => {
                    let fills = self.volume.fill(guest, way, amount)?;
                    self.fills = self.fills.max(fills);
                }
            }
            let host = || {
                guests
                    .peers
                    .get(peer)
                    .map_or(Ok(Duration::ZERO), |peer| peer.cpu_time())
            };
            let reading = self
                .volume
                .step(guest, way, step, amount, host)
                .context(step.name)?;
            let mut rows = self.rows.iter_mut();
            let row = rows.find(|row| row.way == way && row.step == number);
            row.context("no such step")?.rounds.push(reading);
        }
        self.volume.detach(guest, way)
    }

    /// What was measured of a step.
    fn rounds(&self, way: Way, step: usize) -> Option<&Rounds<Reading>> {
        let mut rows = self.rows.iter();
        let row = rows.find(|row| row.way == way && row.step == step);
        row.map(|row| &row.rounds)
    }
}
