// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk of a guest that takes its time, with a file system: filters come and go.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tmem_probe::order::{Answer, Order};

use super::counts::{self, Filter, Origin, PAGE};
use super::reading::Reading;
use super::step::{Reads, Step, Way};
use crate::native::guest::Guest;

/// The part of what is read that the host is to have before anything is read from it.
const FILLED: f64 = 0.95;

/// How often files are read for that at most.
const FILLS: u64 = 8;

/// For what was evicted to come to the host.
const SETTLES: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// How many readings were asked for, and from which their order follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount {
    pub(super) pieces: usize,
    pub(super) seed: u64,
}

/// The disk, mounted.
pub(super) struct Volume {
    /// The name of its device.
    name: String,
    /// Where its files are.
    top: PathBuf,
    /// Of all files.
    bytes: u64,
}

impl Volume {
    /// Makes the disk number `number` of a guest, of what the image `from` has, and mounts it.
    pub(super) fn make(
        guest: &mut Guest,
        number: usize,
        latency: Duration,
        from: &Path,
        mib: u64,
    ) -> Result<Self> {
        let mut volume = Self {
            name: format!("nullb{number}"),
            top: format!("/mnt/{number}").into(),
            bytes: 0,
        };
        guest.order(&Order::SlowDisk {
            name: volume.name.clone(),
            mib,
            nanoseconds: u64::try_from(latency.as_nanos())?,
        })?;
        guest.order(&Order::Copy {
            from: from.into(),
            to: volume.device().into(),
        })?;
        guest.order(&Order::Mount {
            disk: volume.device().into(),
            at: volume.top.clone(),
        })?;
        // From here on the kernel knows the files by their names.
        let amount = Amount { pieces: 0, seed: 0 };
        volume.bytes = volume.read(guest, Reads::InOrder, amount)?.bytes;
        Ok(volume)
    }

    fn device(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// A filter comes, if that is the way.
    pub(super) fn attach(&self, guest: &mut Guest, way: Way) -> Result<()> {
        let device = self.device();
        match way.filter() {
            None => Ok(()),
            Some(kind) => tmemctl(guest, &["attach", "--kind", kind, &device]).map(drop),
        }
    }

    /// It goes.
    pub(super) fn detach(&self, guest: &mut Guest, way: Way) -> Result<()> {
        match way.filter() {
            None => Ok(()),
            Some(_) => tmemctl(guest, &["detach", &self.device()]).map(drop),
        }
    }

    /// What the filter has counted; none without one.
    fn filter(&self, guest: &mut Guest, way: Way) -> Result<Option<Filter>> {
        if way.filter().is_none() {
            return Ok(None);
        }
        let status = tmemctl(guest, &["status", "--json"])?;
        Filter::of(&status, &self.device()).map(Some)
    }

    fn pages_read(&self, guest: &mut Guest) -> Result<u64> {
        let file = format!("/sys/block/{}/stat", self.name).into();
        counts::pages_read(&guest.order(&Order::Show { file })?.said)
    }

    /// Empties the guest's page cache, and waits until what was evicted has come to the host.
    pub(super) fn evict(&self, guest: &mut Guest, way: Way) -> Result<()> {
        guest.order(&Order::Evict)?;
        let start = Instant::now();
        let mut last = self.filter(guest, way)?;
        while let Some(before) = last {
            std::thread::sleep(PAUSE);
            last = self.filter(guest, way)?;
            if last == Some(before) && before.is_settled() {
                break;
            }
            if start.elapsed() > SETTLES {
                bail!("what was evicted is not settled: {before:?}");
            }
        }
        Ok(())
    }

    /// Reads; the page cache has what it has.
    pub(super) fn read(&self, guest: &mut Guest, reads: Reads, amount: Amount) -> Result<Answer> {
        let (piece, random) = reads.pieces(amount.pieces);
        guest.order(&Order::ReadFiles {
            top: self.top.clone(),
            piece,
            random,
            seed: amount.seed,
        })
    }

    /// Has files read until the host has nearly all of them, in an empty page cache; says how often
    /// that took.
    pub(super) fn fill(&self, guest: &mut Guest, way: Way, amount: Amount) -> Result<u64> {
        let wanted = self.bytes as f64 * FILLED;
        for reads in 0..FILLS {
            self.evict(guest, way)?;
            let pages = self.filter(guest, way)?.map_or(0, |filter| filter.pages);
            if (pages * PAGE) as f64 >= wanted {
                return Ok(reads);
            }
            self.read(guest, Reads::InOrder, amount)?;
        }
        bail!("the host has not got the files after {FILLS} more readings")
    }

    /// One step, from an empty page cache. `host` tells the CPU time of the back end.
    pub(super) fn step(
        &self,
        guest: &mut Guest,
        way: Way,
        step: &Step,
        amount: Amount,
        host: impl Fn() -> Result<Duration>,
    ) -> Result<Reading> {
        // What the file system says of them is no part of files.
        guest.order(&Order::ListFiles {
            top: self.top.clone(),
        })?;
        let before = (self.pages_read(guest)?, self.filter(guest, way)?);
        let start = (guest.cpu_time()?, host()?);
        let answer = self.read(guest, step.reads, amount)?;
        let end = (guest.cpu_time()?, host()?);
        let after = (self.pages_read(guest)?, self.filter(guest, way)?);
        let origin = Origin::new((before.0, after.0), before.1.zip(after.1));
        origin.check(step.source, answer.bytes)?;
        let guest_cpu = end.0.saturating_sub(start.0);
        let host_cpu = end.1.saturating_sub(start.1);
        Ok(Reading::new(&answer, origin, guest_cpu, host_cpu))
    }
}

fn tmemctl(guest: &mut Guest, arguments: &[&str]) -> Result<String> {
    let words = std::iter::once(&"/bin/tmemctl").chain(arguments);
    let words = words.map(|word| (*word).into()).collect();
    Ok(guest.order(&Order::Run { words })?.said)
}
