// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The kernel's zram as a peer, on a device of our own.

mod device;
mod interrupt;

use crate::samples::Samples;
use anyhow::Context;
use anyhow::Result;
use device::Device;
use interrupt::Interruptible;
use rustix::fs::FallocateFlags;
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
    device: Device,
    /// Dropped last, so that a signal cannot leave the device behind.
    interruptible: Interruptible,
}

/// What the device holds, by its `mm_stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Pages stored.
    pub(crate) pages: u64,
    /// Bytes that zsmalloc has from the kernel. The device's table, 16 bytes a page of
    /// its size or more, is not among them.
    pub(crate) used_bytes: u64,
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
            device,
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

    /// Frees one page.
    pub(crate) fn free(&self, index: u64) -> Result<()> {
        self.interruptible.check()?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let at = index * PAGE_SIZE as u64;
        rustix::fs::fallocate(&self.disk, flags, at, PAGE_SIZE as u64)
            .context("cannot free a page of a zram device")
    }

    /// Compacts its memory.
    pub(crate) fn compact(&self) -> Result<()> {
        self.device.set("compact", "1")
    }

    /// What it holds now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let text = self.device.get("mm_stat")?;
        memory(&text).with_context(|| format!("cannot read mm_stat of zram: {}", text.trim()))
    }
}

fn memory(mm_stat: &str) -> Option<Memory> {
    let mut numbers = mm_stat.split_ascii_whitespace().map(str::parse);
    let stored: u64 = numbers.next()?.ok()?;
    let used_bytes = numbers.nth(1)?.ok()?;
    Some(Memory {
        pages: stored / PAGE_SIZE as u64,
        used_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_mm_stat() {
        let text = "  8192  2000 12288  0  16384  0  1  0  0\n";
        let expected = Memory {
            pages: 2,
            used_bytes: 12288,
        };
        assert_eq!(memory(text), Some(expected));
        assert_eq!(memory("8192 2000"), None);
        assert_eq!(memory(""), None);
    }

    #[test]
    fn pages_are_written_freed_and_compacted_and_the_device_is_removed() {
        let zram = match Zram::create(1024) {
            Ok(zram) => zram,
            Err(error) => {
                eprintln!("left out: {error:#}");
                return;
            }
        };
        let mut times = Samples::default();
        let mut page = [0; PAGE_SIZE];
        let (varied, _) = page.split_at_mut(256);
        for (byte, value) in varied.iter_mut().zip(0..=255) {
            *byte = value;
        }
        for index in 0..1024 {
            zram.write(index, &page, &mut times).unwrap();
        }
        assert_eq!(zram.memory().unwrap().pages, 1024);
        for index in (0..1024).filter(|index| index % 4 > 0) {
            zram.free(index).unwrap();
        }
        let sparse = zram.memory().unwrap();
        assert_eq!(sparse.pages, 256);
        zram.compact().unwrap();
        let compacted = zram.memory().unwrap();
        assert_eq!(compacted.pages, 256);
        assert!(compacted.used_bytes < sparse.used_bytes / 2);
        let device = zram.device.identity();
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
