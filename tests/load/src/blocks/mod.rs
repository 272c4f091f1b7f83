// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Load for a raw block device, with a model of every sector.
//!
//! The device is divided into regions, each with one thread that writes there.
//! Other threads read anywhere at any time, also what is just being written:
//! such a read may see the sector as it was before or as it is after, or, since
//! disks promise no more, a mixture; the next read that is not overtaken must
//! see it as it is.

mod model;
mod reader;
mod sectors;
#[cfg(test)]
mod tests;
mod writer;

pub use model::Model;
pub use model::check;

use crate::control;
use crate::control::Member;
use crate::control::Orders;
use crate::device;
use crate::report::Counters;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use reader::Reader;
use sectors::Sectors;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::RwLock;
use writer::Writer;

/// Bytes in a sector.
pub const SECTOR: u64 = 512;

/// Most bytes in one operation.
const LARGEST: u64 = 1 << 20;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// A block device, or a file of the right size.
    pub device: PathBuf,
    /// From which everything follows.
    pub seed: u32,
    /// For how long.
    pub seconds: u64,
    /// Only so many MiB at the device's beginning.
    pub size_mib: Option<u64>,
    /// Threads that write, each in its own region.
    pub writers: u32,
    /// Threads that read.
    pub readers: u32,
    /// Where to write the model at each check.
    pub model: Option<PathBuf>,
    /// Whether the machine's caches may be dropped.
    pub drop_caches: bool,
}

/// What all threads share.
struct Shared<'a> {
    options: &'a Options,
    counters: Counters,
    sectors: Sectors,
    /// A region's lock is held for writing while it is used through the page
    /// cache: the kernel promises nothing for that and O_DIRECT at once.
    regions: Vec<RwLock<()>>,
    /// Bytes in a region.
    region: u64,
    /// Bytes of the device's own blocks, of which each request is a multiple.
    unit: u64,
}

/// Runs the load; ends the process when a byte is wrong.
///
/// # Errors
/// The device cannot be used.
pub fn run(options: &Options, orders: &Orders) -> Result<()> {
    let file = device::open(&options.device, false)
        .with_context(|| format!("cannot open {}", options.device.display()))?;
    let all = device::size(&file)?;
    let wanted = options.size_mib.map_or(all, |mib| mib << 20).min(all);
    let region = wanted / u64::from(options.writers.max(1)) / LARGEST * LARGEST;
    ensure!(
        region >= 2 * LARGEST,
        "{} is too small for {} regions of 2 MiB",
        options.device.display(),
        options.writers
    );
    let size = region * u64::from(options.writers.max(1));
    let shared = Shared {
        options,
        counters: Counters::default(),
        sectors: Sectors::new(usize::try_from(size / SECTOR)?),
        regions: (0..options.writers.max(1))
            .map(|_| RwLock::new(()))
            .collect(),
        region,
        unit: device::block(&file),
    };
    let mut members: Vec<Box<dyn Member + Send + '_>> = Vec::new();
    for number in 0..options.writers.max(1) {
        members.push(Box::new(Writer::new(&shared, number)?));
    }
    for number in 0..options.readers {
        members.push(Box::new(Reader::new(&shared, number)?));
    }
    let between = || {
        if let Some(path) = &options.model {
            let model = Model::of(&shared.sectors, options.seed);
            let text = serde_json::to_vec(&model).context("cannot encode the model")?;
            std::fs::write(path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if options.drop_caches {
            control::drop_caches().context("cannot drop the caches")?;
        }
        Ok(())
    };
    let (seed, seconds) = (options.seed, options.seconds);
    control::run(members, orders, seed, seconds, &shared.counters, &between)
}

impl Shared<'_> {
    /// Holds the regions of the bytes from `from` to `to` for direct reads; if
    /// one is used through the page cache, none.
    fn shared_regions(
        &self,
        from: u64,
        to: u64,
    ) -> Option<Vec<std::sync::RwLockReadGuard<'_, ()>>> {
        let first = usize::try_from(from / self.region).ok()?;
        let last = usize::try_from((to - 1) / self.region).ok()?;
        let regions = self.regions.get(first..=last)?;
        regions
            .iter()
            .map(|region| region.try_read().ok())
            .collect()
    }

    /// Waits until nobody else uses region `number`.
    fn own_region(&self, number: u32) -> Option<std::sync::RwLockWriteGuard<'_, ()>> {
        let region = self.regions.get(usize::try_from(number).ok()?)?;
        Some(region.write().unwrap_or_else(PoisonError::into_inner))
    }
}
