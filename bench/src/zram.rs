// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The kernel's zram as a peer, where `/dev/zram0` can be had and is idle.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use anyhow::{Context, Result, bail};
use tmem_store::{PAGE_SIZE, Page};

use crate::samples::Samples;

const SYSFS: &str = "/sys/block/zram0";

/// A page-aligned buffer, as direct I/O wants it.
#[repr(align(4096))]
struct Aligned(Page);

/// `/dev/zram0` with lz4, ours until dropped.
pub(crate) struct Zram {
    disk: File,
}

impl Zram {
    /// Sets the disk up for `pages` pages. Fails if somebody uses it.
    pub(crate) fn open(pages: usize) -> Result<Self> {
        let state = fs::read_to_string(format!("{SYSFS}/initstate"))
            .context("this kernel has no /dev/zram0")?;
        if state.trim() != "0" {
            bail!("/dev/zram0 is in use");
        }
        fs::write(format!("{SYSFS}/comp_algorithm"), "lz4").context("zram without lz4")?;
        let bytes = pages * PAGE_SIZE;
        fs::write(format!("{SYSFS}/disksize"), bytes.to_string())
            .context("setting up /dev/zram0 needs root")?;
        let disk = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open("/dev/zram0")
            .inspect_err(|_| reset())
            .context("cannot open /dev/zram0")?;
        Ok(Self { disk })
    }

    /// Writes one page, past the page cache, and times that.
    pub(crate) fn write(&self, index: u64, page: &Page, times: &mut Samples) -> Result<()> {
        let buffer = Aligned(*page);
        let at = index * PAGE_SIZE as u64;
        Ok(times.time(|| self.disk.write_all_at(&buffer.0, at))?)
    }

    /// Reads one page, past the page cache, and times that.
    pub(crate) fn read(&self, index: u64, times: &mut Samples) -> Result<()> {
        let mut buffer = Aligned([0; PAGE_SIZE]);
        let at = index * PAGE_SIZE as u64;
        Ok(times.time(|| self.disk.read_exact_at(&mut buffer.0, at))?)
    }
}

/// Gives the memory back; there is nobody to tell if that fails.
fn reset() {
    let _ = fs::write(format!("{SYSFS}/reset"), "1");
}

impl Drop for Zram {
    fn drop(&mut self) {
        // The disk resets only once nobody has it open.
        if let Ok(null) = File::open("/dev/null") {
            self.disk = null;
        }
        reset();
    }
}
