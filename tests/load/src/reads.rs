// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reads of a block device, the same for each seed: some pages often, and all others once in a
//! while, one after the other. For who counts where the pages come from.

use crate::device;
use anyhow::Context;
use anyhow::Result;
use fastrand::Rng;
use rustix::fs::Advice;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Of ten reads, so many are of the pages that are read often.
const OFTEN: u32 = 8;

/// How the reads go.
pub struct Options {
    /// The device.
    pub device: PathBuf,
    /// From which everything follows.
    pub seed: u32,
    /// Reads of a page.
    pub reads: u64,
    /// Pages that are read often: the first ones, in MiB. The first of them most often.
    pub hot_mib: u64,
}

/// Reads.
///
/// # Errors
/// The device cannot be read.
pub fn run(options: &Options) -> Result<()> {
    let disk = File::open(&options.device).context("cannot open the device")?;
    // No more than what is asked for.
    rustix::fs::fadvise(&disk, 0, None, Advice::Random).context("cannot turn readahead off")?;
    let pages = device::size(&disk)? / PAGE;
    let hot = ((options.hot_mib << 20) / PAGE).clamp(1, pages);
    let mut random = Rng::with_seed(u64::from(options.seed));
    let mut buffer = [0; 4096];
    let mut cold = hot;
    for _ in 0..options.reads {
        let page = if random.u32(0..10) < OFTEN {
            random.u64(0..hot).min(random.u64(0..hot))
        } else {
            cold = if cold + 1 < pages { cold + 1 } else { hot };
            cold.min(pages - 1)
        };
        disk.read_exact_at(&mut buffer, page * PAGE)
            .with_context(|| format!("cannot read page {page}"))?;
    }
    Ok(())
}
