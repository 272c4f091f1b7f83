// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A thread that reads anywhere.

use crate::blocks::LARGEST;
use crate::blocks::SECTOR;
use crate::blocks::Shared;
use crate::blocks::sectors;
use crate::buffer::Buffer;
use crate::control::Member;
use crate::control::WrongBytes;
use crate::device;
use anyhow::Context;
use anyhow::Result;
use fastrand::Rng;
use rustix::fs::Advice;
use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Reads after which another part of the device is busy.
const EPOCH: u64 = 128;

pub(super) struct Reader<'a> {
    shared: &'a Shared<'a>,
    random: Rng,
    direct: File,
    buffered: File,
    buffer: Buffer,
    steps: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, number: u32) -> Result<Self> {
        let options = shared.options;
        Ok(Self {
            shared,
            random: Rng::with_seed(u64::from(options.seed) << 8 | u64::from(number + 128)),
            direct: device::open(&options.device, true)
                .with_context(|| format!("cannot open {}", options.device.display()))?,
            buffered: device::open(&options.device, false)
                .with_context(|| format!("cannot open {}", options.device.display()))?,
            buffer: Buffer::new(usize::try_from(LARGEST)?),
            steps: 0,
        })
    }
}

impl Member for Reader<'_> {
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        let size = self.shared.sectors.count() as u64 * SECTOR;
        let region = self.shared.region;
        let seed = self.shared.options.seed;
        // The busy part of a writer, or anywhere.
        let writers = size / region;
        let from = self.random.u64(0..writers) * region;
        let at = from + sectors::place(&mut self.random, seed, self.steps / EPOCH, region);
        let scale = self.random.u32(9..=18);
        let length = self.random.u64(1..=1 << scale);
        let unit = self.shared.unit;
        let at = at / unit * unit;
        let end = (at + length.next_multiple_of(unit)).min(size);
        let Some(_regions) = self.shared.shared_regions(at, end) else {
            self.shared.counters.refused("overlapping read");
            std::thread::yield_now();
            return Ok(());
        };
        let part = at..end;
        if self.random.bool() {
            let how = "read with O_DIRECT beside writes";
            read(self.shared, &self.direct, &part, &mut self.buffer, how)?;
            self.shared.counters.done("overlapping read");
        } else {
            // The page cache must not have it, or else nothing is read.
            let length = NonZeroU64::new(end - at);
            rustix::fs::fadvise(&self.buffered, at, length, Advice::DontNeed)
                .context("cannot have pages forgotten")?;
            let how = "read into the page cache beside writes";
            read(self.shared, &self.buffered, &part, &mut self.buffer, how)?;
            self.shared.counters.done("overlapping cached read");
        }
        Ok(())
    }
}

/// Reads `part` and compares it with what it may be.
pub(super) fn read(
    shared: &Shared<'_>,
    file: &File,
    part: &Range<u64>,
    buffer: &mut Buffer,
    how: &str,
) -> Result<()> {
    let first = usize::try_from(part.start / SECTOR)?;
    let count = usize::try_from((part.end - part.start) / SECTOR)?;
    let bytes = buffer.first(usize::try_from(part.end - part.start)?);
    let before = shared.sectors.before(first, count);
    file.read_exact_at(bytes, part.start)
        .with_context(|| format!("cannot read at {}", part.start))?;
    let allowed = shared.sectors.after(first, &before);
    let mut at = part.start;
    for (sector, allowed) in bytes.chunks(usize::try_from(SECTOR)?).zip(&allowed) {
        if let Some(wrong) = allowed.judge(shared.options.seed, at, sector) {
            let device = shared.options.device.display();
            return Err(WrongBytes(format!("{device}, {how}, {wrong}")).into());
        }
        at += SECTOR;
    }
    shared.counters.verified(bytes.len());
    Ok(())
}
