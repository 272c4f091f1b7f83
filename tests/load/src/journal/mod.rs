// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Load that has everything flushed, and notes what it was told is durable: for
//! tests that cut the power.
//!
//! Each thread has some files that it writes in place and appends to, and some
//! that it replaces by renaming. Whenever fsync has returned, that is noted on
//! another disk (`acks`). After the power cut, what was noted must be there, or
//! something later.

mod acks;
mod recovered;
#[cfg(test)]
mod tests;

pub use recovered::check;

use crate::buffer::Buffer;
use crate::content;
use crate::content::Name;
use crate::control;
use crate::control::Member;
use crate::control::Orders;
use crate::device;
use crate::report::Counters;
use acks::Acks;
use acks::Durable;
use anyhow::Context;
use anyhow::Result;
use fastrand::Rng;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

/// Threads.
const THREADS: u32 = 3;

/// Files of a thread that are written in place, and that are replaced.
const IN_PLACE: u32 = 3;
const REPLACED: u32 = 3;

/// Size of a file, at most.
const SIZE: u64 = 1 << 20;

/// Bytes in one write, at most.
const LARGEST: u64 = 64 * 1024;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// An empty directory of the file system.
    pub directory: PathBuf,
    /// A block device for the acknowledgments, of zeros.
    pub acks: PathBuf,
    /// From which everything follows.
    pub seed: u32,
    /// For how long.
    pub seconds: u64,
}

/// Runs the load.
///
/// # Errors
/// The directory or the device cannot be used.
pub fn run(options: &Options, orders: &Orders) -> Result<()> {
    let counters = Counters::default();
    let file = device::open(&options.acks, true)
        .with_context(|| format!("cannot open {}", options.acks.display()))?;
    let mut members: Vec<Box<dyn Member + Send + '_>> = Vec::new();
    for number in 0..THREADS {
        members.push(Box::new(Thread::new(options, number, &file, &counters)?));
    }
    let (seed, seconds) = (options.seed, options.seconds);
    control::run(members, orders, seed, seconds, &counters, &|| Ok(()))
}

/// The acknowledgments of thread `number`: an equal part of the device each.
fn acks_of(file: &File, seed: u32, number: u32) -> Result<Acks<'_>> {
    let part = device::size(file)? / u64::from(THREADS) / 4096 * 4096;
    let from = u64::from(number) * part;
    Ok(Acks::new(file, seed, from, from + part))
}

fn directory_of(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("thread-{number}"))
}

/// The name of a file, by its number.
fn path_of(directory: &Path, file: u32) -> PathBuf {
    directory.join(format!("file-{file}"))
}

struct Thread<'a> {
    options: &'a Options,
    counters: &'a Counters,
    random: Rng,
    number: u32,
    directory: PathBuf,
    /// Files that are written in place, and how long they are.
    in_place: Vec<(u32, File, u64)>,
    acks: Acks<'a>,
    generation: u64,
    buffer: Buffer,
}

impl<'a> Thread<'a> {
    fn new(
        options: &'a Options,
        number: u32,
        acks: &'a File,
        counters: &'a Counters,
    ) -> Result<Self> {
        let directory = directory_of(&options.directory, number);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let mut in_place = Vec::new();
        for file in (0..IN_PLACE).map(|n| number * 100 + n) {
            let path = path_of(&directory, file);
            let made = File::create_new(&path).context("cannot make a file")?;
            made.sync_all().context("cannot fsync")?;
            in_place.push((file, made, 0));
        }
        for path in [&directory, &options.directory] {
            sync_directory(path)?;
        }
        Ok(Self {
            options,
            counters,
            random: Rng::with_seed(u64::from(options.seed) << 8 | u64::from(number)),
            number,
            directory,
            in_place,
            acks: acks_of(acks, options.seed, number)?,
            generation: 0,
            buffer: Buffer::new(usize::try_from(SIZE)?),
        })
    }

    fn name(&mut self, file: u32) -> Name {
        self.generation += 1;
        Name {
            seed: self.options.seed,
            file,
            generation: self.generation,
        }
    }

    /// Writes somewhere in a file, or at its end, and has that flushed.
    fn write(&mut self) -> Result<Option<Durable>> {
        let one = self.random.usize(0..self.in_place.len());
        let length = self.random.u64(1..=LARGEST / 512) * 512;
        let Some((file, _, end)) = self.in_place.get(one) else {
            return Ok(None);
        };
        let (file, end) = (*file, *end);
        let append = end < SIZE && self.random.bool();
        let at = if append {
            end
        } else {
            self.random.u64(0..=end / 512) * 512
        };
        let length = length.min(SIZE.saturating_sub(at));
        if length == 0 {
            return Ok(None);
        }
        let name = self.name(file);
        let bytes = self.buffer.first(usize::try_from(length)?);
        content::fill(name, at, bytes);
        let data_only = self.random.bool();
        let Some((_, to, end)) = self.in_place.get_mut(one) else {
            return Ok(None);
        };
        to.write_all_at(bytes, at).context("cannot write")?;
        *end = (*end).max(at + length);
        if data_only {
            to.sync_data().context("cannot fdatasync")?;
        } else {
            to.sync_all().context("cannot fsync")?;
        }
        self.counters.done("write and fsync");
        Ok(Some(Durable::Part {
            file,
            at,
            length,
            generation: name.generation,
        }))
    }

    /// Replaces a file by another one, as editors do.
    fn replace(&mut self) -> Result<Durable> {
        let file = self.number * 100 + IN_PLACE + self.random.u32(0..REPLACED);
        let length = self.random.u64(1..=LARGEST);
        let name = self.name(file);
        let new = self.directory.join("new");
        let made = File::create(&new).context("cannot make a file")?;
        let bytes = self.buffer.first(usize::try_from(length)?);
        content::fill(name, 0, bytes);
        made.write_all_at(bytes, 0).context("cannot write")?;
        made.sync_all().context("cannot fsync")?;
        fs::rename(&new, path_of(&self.directory, file)).context("cannot rename")?;
        sync_directory(&self.directory)?;
        self.counters.done("replace and fsync");
        Ok(Durable::Whole {
            file,
            length,
            generation: name.generation,
        })
    }
}

impl Member for Thread<'_> {
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let durable = if self.random.u32(0..4) == 0 {
            Some(self.replace()?)
        } else {
            self.write()?
        };
        if let Some(durable) = durable {
            // Without room for it, it is not claimed.
            self.acks.add(durable)?;
        }
        Ok(())
    }
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("cannot fsync {}", path.display()))
}
