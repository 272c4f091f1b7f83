// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a thread does to its files.

use crate::buffer::Buffer;
use crate::content;
use crate::content::Name;
use crate::control;
use crate::control::Member;
use crate::control::WrongBytes;
use crate::files::Options;
use crate::files::choice;
use crate::files::choice::Kind;
use crate::files::choice::LARGEST;
use crate::files::map;
use crate::files::map::Map;
use crate::files::owned::Owned;
use crate::report::Counters;
use crate::runs::Source;
use anyhow::Context;
use anyhow::Result;
use fastrand::Rng;
use rustix::fs::Advice;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Files of a thread, at most.
const FILES: u64 = 6;

/// Bytes of a file system's block, at most.
const BLOCK: u64 = 4096;

/// What a file system answers to what it does not have.
const REFUSALS: [Errno; 5] = [
    Errno::OPNOTSUPP,
    Errno::INVAL,
    Errno::NOSYS,
    Errno::NOTTY,
    Errno::XDEV,
];

/// One thread, its files and what they must hold.
pub(super) struct Thread<'a> {
    options: &'a Options,
    counters: &'a Counters,
    random: Rng,
    directory: PathBuf,
    files: Vec<Owned>,
    buffer: Buffer,
    /// Numbers of files are not used twice, of no thread.
    next_file: u32,
    next_name: u32,
    generation: u64,
    /// A file's largest size in bytes.
    largest: u64,
}

impl<'a> Thread<'a> {
    pub(super) fn new(options: &'a Options, number: u32, counters: &'a Counters) -> Result<Self> {
        let directory = options.directory.join(format!("thread-{number}"));
        if directory.exists() {
            fs::remove_dir_all(&directory).context("cannot remove what an earlier run left")?;
        }
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let mut seeds = Rng::with_seed(u64::from(options.seed));
        let random = (0..=number).fold(seeds.fork(), |_, _| seeds.fork());
        let all = options.size_mib << 20;
        Ok(Self {
            options,
            counters,
            random,
            directory,
            files: Vec::new(),
            buffer: Buffer::new(LARGEST),
            next_file: number * 1_000_000 + 1,
            next_name: 0,
            generation: 0,
            largest: all / u64::from(options.threads.max(1)) / FILES,
        })
    }

    fn fresh_path(&mut self) -> PathBuf {
        self.next_name += 1;
        self.directory.join(format!("file-{}", self.next_name))
    }

    fn create(&mut self) -> Result<()> {
        let path = self.fresh_path();
        self.files.push(Owned::create(path, self.next_file)?);
        self.next_file += 1;
        Ok(())
    }

    /// The next write's name.
    fn name(&mut self, file: u32) -> Name {
        self.generation += 1;
        Name {
            seed: self.options.seed,
            file,
            generation: self.generation,
        }
    }

    /// Does `kind` to one of the files, chosen at random. Gives back whether
    /// it could be done.
    fn act(&mut self, kind: Kind) -> Result<bool> {
        if self.files.is_empty() {
            self.create()?;
        }
        let at = self.random.usize(0..self.files.len());
        // It is taken out and put back, so that both are at hand.
        let mut file = self.files.swap_remove(at);
        let done = self.act_on(kind, &mut file);
        self.files.push(file);
        done
    }

    fn act_on(&mut self, kind: Kind, file: &mut Owned) -> Result<bool> {
        let length = file.model.length();
        let anywhere = choice::part(&mut self.random, self.largest);
        let inside = anywhere.start.min(length)..anywhere.end.min(length);
        match kind {
            Kind::Write => self.write(file, &anywhere, false),
            Kind::Read => self.read(file, &inside, false),
            Kind::DirectWrite => {
                let part = choice::direct_part(&mut self.random, self.largest);
                self.write(file, &part, true)
            }
            Kind::DirectRead => {
                let part = choice::direct_part(&mut self.random, length);
                self.read(file, &part, true)
            }
            Kind::MapWrite => self.map(file, &inside, true),
            Kind::MapRead => self.map(file, &inside, false),
            Kind::Truncate => {
                let to = if self.random.bool() {
                    anywhere.start
                } else {
                    inside.end
                };
                file.file.set_len(to).context("cannot truncate")?;
                file.model.truncate(to);
                Ok(true)
            }
            Kind::Punch => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                let done = allocate(file, &anywhere, flags)?;
                if done {
                    file.model.punch(inside);
                }
                Ok(done)
            }
            Kind::Zero if self.random.bool() => {
                let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
                let done = allocate(file, &anywhere, flags)?;
                if done {
                    file.model.punch(inside);
                }
                Ok(done)
            }
            // ext4 of Linux 7.3.4 leaves the last bytes of a file in the page cache when it zeroes
            // beyond them (docs/measurements.md), which would be taken for a filter's fault.
            Kind::Zero if anywhere.contains(&length) && !length.is_multiple_of(BLOCK) => Ok(false),
            Kind::Zero => {
                let done = allocate(file, &anywhere, FallocateFlags::ZERO_RANGE)?;
                if done {
                    let count = anywhere.end - anywhere.start;
                    file.model.write(anywhere.start, count, Source::Zeros);
                }
                Ok(done)
            }
            Kind::Allocate => {
                let done = allocate(file, &anywhere, FallocateFlags::empty())?;
                if done {
                    file.model.truncate(length.max(anywhere.end));
                }
                Ok(done)
            }
            Kind::Clone => self.clone_whole(file),
            Kind::Copy => self.copy(file, &anywhere),
            Kind::Sync => {
                if self.random.bool() {
                    file.file.sync_all().context("cannot fsync")?;
                } else {
                    file.file.sync_data().context("cannot fdatasync")?;
                }
                Ok(true)
            }
            Kind::Scan => {
                let count = file.scan("read in order")?;
                self.counters.verified(count);
                Ok(true)
            }
            Kind::Rename => {
                let to = self.fresh_path();
                fs::rename(&file.path, &to).context("cannot rename")?;
                file.path = to;
                file.reopen().map(|()| true)
            }
            Kind::Replace => {
                let Some(victim) = self.files.pop() else {
                    return Ok(false);
                };
                fs::rename(&file.path, &victim.path).context("cannot replace")?;
                file.path = victim.path;
                file.reopen().map(|()| true)
            }
            Kind::Remove => {
                let Some(victim) = self.files.pop() else {
                    return Ok(false);
                };
                fs::remove_file(&victim.path).context("cannot remove")?;
                Ok(true)
            }
            Kind::Create => {
                // The one at hand counts.
                if (self.files.len() as u64) + 1 >= FILES {
                    return Ok(false);
                }
                self.create().map(|()| true)
            }
            Kind::Reopen => file.reopen().map(|()| true),
            Kind::Forget => {
                // Pages that are not on the disk yet would stay.
                file.file.sync_data().context("cannot fdatasync")?;
                rustix::fs::fadvise(&file.file, 0, None, Advice::DontNeed)
                    .context("cannot forget")?;
                Ok(true)
            }
            Kind::DropCaches => {
                if self.options.drop_caches {
                    control::drop_caches().context("cannot drop the caches")?;
                }
                Ok(self.options.drop_caches)
            }
        }
    }

    fn write(&mut self, file: &mut Owned, part: &Range<u64>, direct: bool) -> Result<bool> {
        let to = if direct {
            match &file.direct {
                Some(direct) => direct,
                None => return Ok(false),
            }
        } else {
            &file.file
        };
        let count = part.end - part.start;
        let name = self.name(file.number);
        let bytes = self.buffer.first(usize::try_from(count)?);
        content::fill(name, part.start, bytes);
        let written = to.write_all_at(bytes, part.start);
        if !is_done(written, "write")? {
            return Ok(false);
        }
        let source = Source::Written(name, part.start);
        file.model.write(part.start, count, source);
        Ok(true)
    }

    fn read(&mut self, file: &Owned, part: &Range<u64>, direct: bool) -> Result<bool> {
        if part.is_empty() {
            return Ok(false);
        }
        let (from, how) = match &file.direct {
            Some(from) if direct => (from, "read with O_DIRECT"),
            None if direct => return Ok(false),
            _ => (&file.file, "read"),
        };
        // What is asked for beyond the end is not there.
        let wanted = part.end.min(file.model.length()).max(part.start) - part.start;
        let bytes = self.buffer.first(usize::try_from(part.end - part.start)?);
        match read_all(from, part.start, bytes) {
            Ok(count) if count as u64 != wanted => {
                let path = file.path.display();
                let text = format!(
                    "file {} ({path}), {how} at {:#x}: {count} bytes instead of {wanted}",
                    file.number, part.start
                );
                Err(WrongBytes(text).into())
            }
            Ok(count) => {
                let found = bytes.get(..count).unwrap_or_default();
                file.verify(part.start, found, how)?;
                self.counters.verified(count);
                Ok(true)
            }
            Err(error) if direct && is_refusal(&error) => Ok(false),
            Err(error) => {
                Err(error).with_context(|| format!("cannot read {}", file.path.display()))
            }
        }
    }

    fn map(&mut self, file: &mut Owned, part: &Range<u64>, write: bool) -> Result<bool> {
        if part.is_empty() {
            return Ok(false);
        }
        let offset = part.start / map::PAGE * map::PAGE;
        let length = usize::try_from(part.end - offset)?;
        let mut map = Map::new(&file.file, offset, length).context("cannot map")?;
        let from = usize::try_from(part.start - offset)?;
        let bytes = map.bytes().get_mut(from..).unwrap_or_default();
        // What is written over is looked at before: it is read anyhow.
        file.verify(part.start, bytes, "read through a mapping")?;
        self.counters.verified(bytes.len());
        if write {
            let name = self.name(file.number);
            content::fill(name, part.start, bytes);
            if self.random.u32(0..4) == 0 {
                map.sync().context("cannot msync")?;
            }
            let source = Source::Written(name, part.start);
            file.model.write(part.start, part.end - part.start, source);
        }
        Ok(true)
    }

    /// Makes `file` a clone of another.
    fn clone_whole(&mut self, file: &mut Owned) -> Result<bool> {
        let Some(other) = self.random.choice(&self.files) else {
            return Ok(false);
        };
        file.file.set_len(0).context("cannot truncate")?;
        file.model.truncate(0);
        let cloned = rustix::fs::ioctl_ficlone(&file.file, &other.file);
        if !is_done(cloned.map_err(Into::into), "clone")? {
            return Ok(false);
        }
        file.model = other.model.clone();
        Ok(true)
    }

    /// Copies a part of another file into `file`: by sharing blocks, where the
    /// file system can.
    fn copy(&mut self, file: &mut Owned, part: &Range<u64>) -> Result<bool> {
        let Some(other) = self.random.choice(&self.files) else {
            return Ok(false);
        };
        let end = part.end.min(other.model.length());
        if part.start >= end {
            return Ok(false);
        }
        let mut to = self.random.u64(0..=self.largest - (end - part.start));
        if self.random.bool() {
            // Blocks are shared only where they lie alike.
            to = (to / BLOCK * BLOCK) + part.start % BLOCK;
        }
        let (mut from_at, mut to_at) = (part.start, to);
        while from_at < end {
            let left = usize::try_from(end - from_at)?;
            let copied = rustix::fs::copy_file_range(
                &other.file,
                Some(&mut from_at),
                &file.file,
                Some(&mut to_at),
                left,
            );
            match copied {
                Ok(0) => anyhow::bail!("copy_file_range copies nothing"),
                Ok(_) => {}
                Err(error) if REFUSALS.contains(&error) && from_at == part.start => {
                    return Ok(false);
                }
                Err(error) => return Err(error).context("cannot copy"),
            }
        }
        file.model.copy(&other.model, part.start..end, to);
        Ok(true)
    }

    /// Compares the directory with the files that must be in it.
    fn check_names(&self) -> Result<()> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&self.directory).context("cannot list the directory")? {
            found.insert(entry.context("cannot list the directory")?.path());
        }
        let expected: BTreeSet<PathBuf> = self.files.iter().map(|file| file.path.clone()).collect();
        if found != expected {
            let text = format!("the directory has {found:?} instead of {expected:?}");
            return Err(WrongBytes(text).into());
        }
        Ok(())
    }
}

impl Member for Thread<'_> {
    fn settle(&mut self) -> Result<()> {
        for file in &self.files {
            file.file.sync_all().context("cannot fsync")?;
        }
        let directory = File::open(&self.directory).context("cannot open the directory")?;
        directory.sync_all().context("cannot fsync the directory")
    }

    fn check(&mut self) -> Result<()> {
        self.check_names()?;
        for file in &mut self.files {
            file.reopen()?;
            self.counters.verified(file.scan("read from the disk")?);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let kind = choice::kind(&mut self.random);
        let label = label(kind);
        if self.act(kind).context(label)? {
            self.counters.done(label);
        } else {
            self.counters.refused(label);
        }
        Ok(())
    }
}

/// Whether it is done, or refused; anything else is an error.
fn is_done(outcome: std::io::Result<()>, what: &str) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if is_refusal(&error) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot {what}")),
    }
}

fn is_refusal(error: &std::io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|error| REFUSALS.contains(&error))
}

fn allocate(file: &Owned, part: &Range<u64>, flags: FallocateFlags) -> Result<bool> {
    let count = part.end - part.start;
    let done = rustix::fs::fallocate(&file.file, flags, part.start, count);
    is_done(done.map_err(Into::into), "fallocate")
}

/// Reads until `into` is full or the file ends.
fn read_all(file: &File, at: u64, into: &mut [u8]) -> std::io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = into.get_mut(count..)
        && !rest.is_empty()
    {
        match file.read_at(rest, at + count as u64)? {
            0 => break,
            more => count += more,
        }
        // The rest of a page is past the end: it could not be read directly.
        if !count.is_multiple_of(512) {
            break;
        }
    }
    Ok(count)
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Write => "write",
        Kind::Read => "read",
        Kind::DirectWrite => "direct write",
        Kind::DirectRead => "direct read",
        Kind::MapWrite => "mmap write",
        Kind::MapRead => "mmap read",
        Kind::Truncate => "truncate",
        Kind::Punch => "punch hole",
        Kind::Zero => "zero range",
        Kind::Allocate => "allocate",
        Kind::Clone => "clone",
        Kind::Copy => "copy range",
        Kind::Sync => "sync",
        Kind::Scan => "scan",
        Kind::Rename => "rename",
        Kind::Replace => "replace",
        Kind::Remove => "remove",
        Kind::Create => "create",
        Kind::Reopen => "reopen",
        Kind::Forget => "forget",
        Kind::DropCaches => "drop caches",
    }
}

#[cfg(test)]
impl Thread<'_> {
    pub(super) fn largest_file(&self) -> Option<&Owned> {
        self.files.iter().max_by_key(|file| file.model.length())
    }

    pub(super) fn lengths(&self) -> Vec<u64> {
        self.files.iter().map(|file| file.model.length()).collect()
    }
}
