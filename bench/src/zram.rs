// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The kernel's zram as a peer, on a device of our own.

mod device;
mod interrupt;

use crate::samples::Samples;
use anyhow::Context;
use anyhow::Result;
use device::Device;
use interrupt::Interruptible;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use tmem_store::PAGE_SIZE;
use tmem_store::Page;

/// A page-aligned buffer, as direct I/O wants it.
#[repr(align(4096))]
struct Aligned(Page);

/// A zram device with lz4 that nobody else uses; it is removed on drop.
pub(crate) struct Zram {
    /// Dropped first: the kernel removes a device only once nobody has it open.
    disk: File,
    _device: Device,
    /// Dropped last, so that a signal cannot leave the device behind.
    interruptible: Interruptible,
}

impl Zram {
    /// Makes a device for `pages` pages.
    pub(crate) fn create(pages: usize) -> Result<Self> {
        let interruptible = Interruptible::begin()?;
        let device = Device::add()?;
        device.set("comp_algorithm", "lz4")?;
        device.set("disksize", &(pages * PAGE_SIZE).to_string())?;
        let path = device.path();
        let disk = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self {
            disk,
            _device: device,
            interruptible,
        })
    }

    /// Writes one page, past the page cache, and times that.
    pub(crate) fn write(&self, index: u64, page: &Page, times: &mut Samples) -> Result<()> {
        self.interruptible.check()?;
        let buffer = Aligned(*page);
        let at = index * PAGE_SIZE as u64;
        Ok(times.time(|| self.disk.write_all_at(&buffer.0, at))?)
    }

    /// Reads one page, past the page cache, and times that.
    pub(crate) fn read(&self, index: u64, times: &mut Samples) -> Result<()> {
        self.interruptible.check()?;
        let mut buffer = Aligned([0; PAGE_SIZE]);
        let at = index * PAGE_SIZE as u64;
        Ok(times.time(|| self.disk.read_exact_at(&mut buffer.0, at))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_written_and_read_and_the_device_is_removed() {
        let zram = match Zram::create(1) {
            Ok(zram) => zram,
            Err(error) => {
                eprintln!("left out: {error:#}");
                return;
            }
        };
        let mut times = Samples::default();
        zram.write(0, &[7; PAGE_SIZE], &mut times).unwrap();
        zram.read(0, &mut times).unwrap();
        let device = zram._device.identity();
        drop(zram);
        assert!(!device.exists());
    }

    #[test]
    fn a_device_that_cannot_be_set_up_is_removed() {
        let device = match Device::add() {
            Ok(device) => device,
            Err(error) => {
                eprintln!("left out: {error:#}");
                return;
            }
        };
        let identity = device.identity();
        assert!(identity.exists());
        device.set("disksize", "0").unwrap_err();
        drop(device);
        assert!(!identity.exists());
    }
}
