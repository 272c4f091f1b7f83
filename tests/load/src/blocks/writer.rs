// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A thread that changes its region, and reads it.

use crate::blocks::LARGEST;
use crate::blocks::SECTOR;
use crate::blocks::Shared;
use crate::blocks::reader;
use crate::blocks::sectors;
use crate::blocks::sectors::State;
use crate::buffer::Buffer;
use crate::control;
use crate::control::Member;
use crate::device;
use anyhow::Context;
use anyhow::Result;
use fastrand::Rng;
use rustix::fs::Advice;
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Operations through the page cache, one after the other.
const BUFFERED: u32 = 12;

/// Operations after which another part of the device is busy.
const EPOCH: u64 = 64;

pub(super) struct Writer<'a> {
    shared: &'a Shared<'a>,
    number: u32,
    random: Rng,
    cached: File,
    direct: File,
    buffer: Buffer,
    steps: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, number: u32) -> Result<Self> {
        let options = shared.options;
        let open = |direct| {
            device::open(&options.device, direct)
                .with_context(|| format!("cannot open {}", options.device.display()))
        };
        Ok(Self {
            shared,
            number,
            random: Rng::with_seed(u64::from(options.seed) << 8 | u64::from(number)),
            cached: open(false)?,
            direct: open(true)?,
            buffer: Buffer::new(usize::try_from(LARGEST)?),
            steps: 0,
        })
    }

    fn start(&self) -> u64 {
        u64::from(self.number) * self.shared.region
    }

    /// A part of the region, in whole sectors.
    fn part(&mut self) -> Range<u64> {
        let region = self.shared.region;
        let seed = self.shared.options.seed;
        let at = sectors::place(&mut self.random, seed, self.steps / EPOCH, region);
        let scale = self.random.u32(9..=20);
        let length = self.random.u64(1..=1 << scale);
        let unit = if self.random.u32(0..3) == 0 {
            self.shared.unit
        } else {
            4096
        };
        let at = at / unit * unit;
        let length = length.next_multiple_of(unit).min(region - at);
        self.start() + at..self.start() + at + length
    }

    /// Changes `part` by what `change` does, and notes it.
    fn change(
        &mut self,
        part: &Range<u64>,
        state: State,
        change: impl FnOnce(&mut Self, u64) -> std::io::Result<()>,
    ) -> Result<bool> {
        let first = usize::try_from(part.start / SECTOR)?;
        let count = usize::try_from((part.end - part.start) / SECTOR)?;
        let sectors = &self.shared.sectors;
        let sector = sectors.begin(first, count, state);
        match change(self, sector.generation) {
            Ok(()) => {
                sectors.end(first, count, sector);
                Ok(true)
            }
            // Refused whole, the sectors are as they were; but that cannot be
            // told to those who have seen it begin.
            Err(error) if state != State::Written && is_refusal(&error) => {
                let state = State::Any;
                sectors.end(first, count, sectors::Sector { state, ..sector });
                Ok(false)
            }
            Err(error) => Err(error).context("cannot change the device"),
        }
    }

    fn write(&mut self, part: &Range<u64>, direct: bool) -> Result<bool> {
        let part = part.clone();
        self.change(&part, State::Written, |this, generation| {
            let count = usize::try_from(part.end - part.start).unwrap_or_default();
            let bytes = this.buffer.first(count);
            sectors::fill(this.shared.options.seed, generation, part.start, bytes);
            let file = if direct { &this.direct } else { &this.cached };
            file.write_all_at(bytes, part.start)
        })
    }

    fn read(&mut self, part: &Range<u64>, direct: bool) -> Result<bool> {
        let file = if direct { &self.direct } else { &self.cached };
        let how = if direct { "read with O_DIRECT" } else { "read" };
        reader::read(self.shared, file, part, &mut self.buffer, how)?;
        Ok(true)
    }

    fn zero(&mut self, part: &Range<u64>, flags: FallocateFlags) -> Result<bool> {
        let range = part.clone();
        self.change(part, State::Zeros, |this, _| {
            let count = range.end - range.start;
            rustix::fs::fallocate(&this.cached, flags, range.start, count).map_err(Into::into)
        })
    }

    fn discard(&mut self, part: &Range<u64>) -> Result<bool> {
        let range = part.clone();
        self.change(part, State::Any, |this, _| {
            device::discard(&this.cached, &range)
        })
    }

    /// Some work through the page cache, while nobody else is there.
    fn buffered(&mut self) -> Result<bool> {
        let shared = self.shared;
        let _region = shared.own_region(self.number);
        // Nothing of before, and no readahead into regions of others: it could
        // leave there what a direct write has just replaced.
        self.forget()?;
        rustix::fs::fadvise(&self.cached, 0, None, Advice::Random).context("cannot advise")?;
        for _ in 0..BUFFERED {
            let part = self.part();
            match self.random.u32(0..5) {
                0..=2 => self.write(&part, false)?,
                3 => self.read(&part, false)?,
                _ => self.forget()?,
            };
        }
        self.forget()
    }

    /// Has the region on the disk, and not in the page cache.
    fn forget(&mut self) -> Result<bool> {
        self.cached.sync_data().context("cannot fdatasync")?;
        let length = NonZeroU64::new(self.shared.region);
        rustix::fs::fadvise(&self.cached, self.start(), length, Advice::DontNeed)
            .context("cannot forget")?;
        Ok(true)
    }

    fn act(&mut self) -> Result<(&'static str, bool)> {
        let part = self.part();
        let keep = FallocateFlags::KEEP_SIZE;
        Ok(match self.random.u32(0..100) {
            0..40 => ("direct write", self.write(&part, true)?),
            40..55 => {
                self.write(&part, true)?;
                ("direct write and read", self.read(&part, true)?)
            }
            55..80 => ("direct read", self.read(&part, true)?),
            80..86 => {
                let flags = FallocateFlags::ZERO_RANGE | keep;
                ("write zeroes", self.zero(&part, flags)?)
            }
            86..89 => {
                let flags = FallocateFlags::PUNCH_HOLE | keep;
                ("unmap to zeroes", self.zero(&part, flags)?)
            }
            89..94 => ("discard", self.discard(&part)?),
            94..98 => ("through the page cache", self.buffered()?),
            98 => {
                let done = device::flush_buffers(&self.cached);
                ("flush buffers", done.is_ok())
            }
            _ => {
                if self.shared.options.drop_caches {
                    control::drop_caches().context("cannot drop the caches")?;
                }
                ("drop caches", self.shared.options.drop_caches)
            }
        })
    }

    /// Writes all of the region once: nothing is known about it before.
    fn claim_region(&mut self) -> Result<()> {
        let (mut at, end) = (self.start(), self.start() + self.shared.region);
        while at < end {
            let part = at..(at + LARGEST).min(end);
            at = part.end;
            self.write(&part, true)?;
        }
        Ok(())
    }
}

impl Member for Writer<'_> {
    fn settle(&mut self) -> Result<()> {
        self.forget()?;
        self.direct.sync_all().context("cannot fsync")
    }

    fn check(&mut self) -> Result<()> {
        let (mut at, end) = (self.start(), self.start() + self.shared.region);
        while at < end {
            let part = at..(at + LARGEST).min(end);
            at = part.end;
            let how = "read from the disk";
            reader::read(self.shared, &self.direct, &part, &mut self.buffer, how)?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        if self.steps == 0 {
            self.claim_region()?;
        }
        self.steps += 1;
        let (label, done) = self.act()?;
        if done {
            self.shared.counters.done(label);
        } else {
            self.shared.counters.refused(label);
        }
        Ok(())
    }
}

fn is_refusal(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let refusals = [Errno::OPNOTSUPP, Errno::INVAL, Errno::NOTTY, Errno::NOSYS];
    Errno::from_io_error(error).is_some_and(|error| refusals.contains(&error))
}
