// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The file behind a disk. Knows no virtio.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::ioctl_blksszget;
use vm_memory::VolatileSlice;

use super::SECTOR;
use super::discard::{self, Kind};
use super::format;
use super::open::{self, OpenError};
use super::partition::partitioned;
use crate::virtio::vectored;

/// Zeros are written in pieces of this size, where the host has no better way.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A raw disk: an open, locked file or block device of a size that does not
/// change.
#[derive(Debug)]
pub struct Disk {
    file: File,
    kind: Kind,
    read_only: bool,
    size: u64,
    block_size: u32,
    granularity: u32,
    id: String,
}

impl Disk {
    /// Opens the file or block device at `path`, and locks it: against all
    /// others if it will be written to, else against writers. An image that is
    /// recognisably not raw is refused.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it and what to do.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, OpenError> {
        Self::open_as(path, read_only, true)
    }

    /// Opens it likewise, whatever it looks like.
    ///
    /// # Errors
    /// As for [`Disk::open`].
    pub fn open_raw(path: &Path, read_only: bool) -> Result<Self, OpenError> {
        Self::open_as(path, read_only, false)
    }

    fn open_as(path: &Path, read_only: bool, examine: bool) -> Result<Self, OpenError> {
        let (mut file, metadata) = open::open(path, read_only)?;
        let block = metadata.file_type().is_block_device();
        let size = if block {
            // A device's metadata has no size.
            file.seek(SeekFrom::End(0))
        } else {
            Ok(metadata.len())
        };
        let told = |source| OpenError::Other {
            path: path.into(),
            source,
        };
        let size = size.map_err(told)?;
        // Before the size, which may be odd for that reason.
        if examine && let Some(found) = format::examine(&file, size).map_err(told)? {
            return Err(OpenError::NotRaw(path.into(), found));
        }
        open::check_size(path, size)?;
        let block_size = if block {
            ioctl_blksszget(&file).map_err(|error| told(error.into()))?
        } else {
            512
        };
        Ok(Self {
            kind: if block { Kind::Device } else { Kind::File },
            read_only,
            size,
            block_size,
            granularity: if block {
                block_size
            } else {
                granularity(metadata.blksize())
            },
            id: id(&metadata),
            file,
        })
    }

    /// Whether the guest may only read.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Bytes: a multiple of 512.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether there is an MBR or GPT partition table on it, so that its first
    /// partition is to be the root, not the disk itself.
    pub fn is_partitioned(&self) -> bool {
        partitioned(&self.file)
    }

    /// Bytes of the host's blocks: smaller writes are slow, but work.
    pub(super) fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Bytes of the pieces that can be discarded.
    pub(super) fn granularity(&self) -> u32 {
        self.granularity
    }

    /// Names the file on this host, also after a restart.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Fills `slices` from byte `offset` on.
    pub(super) fn read(&self, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        vectored::read_exact_at(self.file.as_fd(), slices, offset)
    }

    /// Writes `slices` from byte `offset` on.
    pub(super) fn write(&self, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        vectored::write_all_at(self.file.as_fd(), slices, offset)
    }

    /// Makes what was written stable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives the host's storage of a range back; what it reads as afterwards is
    /// not said. `Ok(false)` if the host cannot do that.
    pub(super) fn discard(&self, offset: u64, len: u64) -> io::Result<bool> {
        // A part of a piece would have to be zeroed instead.
        let piece = u64::from(self.granularity);
        let start = offset.next_multiple_of(piece);
        let end = (offset + len) / piece * piece;
        if start >= end {
            return Ok(true);
        }
        discard::discard(&self.file, self.kind, start, end - start)
    }

    /// Makes a range read as zeros. With `unmap` its storage may go.
    pub(super) fn zero(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        if len == 0 || discard::zero(&self.file, offset, len, unmap)? {
            return Ok(());
        }
        let mut done = 0;
        while done < len {
            let count = (len - done).min(ZEROS.len() as u64);
            let zeros = usize::try_from(count)
                .ok()
                .and_then(|count| ZEROS.get(..count));
            self.file
                .write_all_at(zeros.unwrap_or(&ZEROS), offset + done)?;
            done += count;
        }
        Ok(())
    }

    /// Sectors of 512 bytes.
    pub(super) fn sectors(&self) -> u64 {
        self.size / SECTOR
    }
}

/// Bytes of a file system's blocks, of which it says that `preferred` are good
/// to transfer at a time: the same number for most file systems.
fn granularity(preferred: u64) -> u32 {
    match u32::try_from(preferred) {
        Ok(size @ 512..=0x1_0000) if size.is_power_of_two() => size,
        _ => 4096,
    }
}

fn id(metadata: &Metadata) -> String {
    if metadata.file_type().is_block_device() {
        format!("dev-{:x}", metadata.rdev())
    } else {
        format!("{:x}-{:x}", metadata.dev(), metadata.ino())
    }
}
